-- Arguments: METHOD [BODY]. Prints the figures as one line of JSON.
function init(args)
    wrk.method = args[1]
    wrk.body = args[2]
end

function done(summary, latency, requests)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"microseconds":%d,"p99":%d,"unanswered":%d,"refused":%d}',
        summary.requests, summary.duration, latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.timeout, errors.status
    ))
end
