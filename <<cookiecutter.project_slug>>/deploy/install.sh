#!/usr/bin/env bash
# Install a release beside the current one and switch the service to it, or back.
#
#     PREFIX=/opt/<< cookiecutter.project_slug >> ./install.sh  install, from the unpacked archive
#     PREFIX/current/install.sh rollback    switch back to the previous release
#     PREFIX/current/install.sh serve       run the daemon in the foreground
#
# It needs no network, only the Python that built the archive. PREFIX, by default /opt/<< cookiecutter.project_slug >>,
# holds releases/, the links current and previous, and environment: lines of NAME=value for the
# daemon. The two linked releases are kept. If a step fails, one line says why, and the current
# release keeps serving.
<% if cookiecutter.database != "none" %>
# A rollback does not undo migrations: the previous release must work with them.
<% endif %>
[ -n "$BASH_VERSION" ] || exec bash "$0" "$@" # sh install.sh
set -euo pipefail

name=<< cookiecutter.project_slug >>
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=${PREFIX:-/opt/$name}
timeout=90 # seconds for a new master to be ready; boot_timeout ends it sooner
created='' switched='' before='' listener='' # what undo() has to undo

main() {
    [[ $prefix == /* ]] || prefix=$PWD/$prefix
    [[ -d $here/wheels ]] || prefix=${here%/releases/*} # already installed
    case ${1:-install} in
        install) install ;;
        rollback) rollback ;;
        serve) serve ;;
        -h | --help) usage ;;
        *) fail "unknown command $1: use rollback, serve, or none to install" ;;
    esac
}

install() {
    [[ -d $here/wheels ]] || fail "run the install.sh of an unpacked archive"
    umask 022 # the daemon may run as another user
    mkdir -p "$prefix/releases"
    begin
<% if cookiecutter.database != "none" %>
    require_url
<% endif %>
    local version
    version=$(basename "$here/wheels/$name"-*.whl)
    version=${version#"$name-"}
    release=releases/${version%%-*}
    ! is_linked "$prefix/$release" ||
        fail "${release#*/} is already installed: give the new release another version"
    created=$release
    unpack
<% if cookiecutter.database != "none" %>
    migrate
<% endif %>
    check
    switch_over
    remove_old
}

rollback() {
    begin
    release=$(link_target previous)
    [[ -n $release ]] || fail "there is no previous release"
    check
    switch_over
}

# Started through the link: at USR2 the master starts the release that the link then points to.
serve() {
    read_environment
    cd "$prefix/current"
    export NOTIFY_SOCKET=$prefix/notify
    exec "$prefix/current/venv/bin/python" -P -m api_hour "$name:Container" --pid "$prefix/$name.pid"
}

# Print the comment at the top of this file.
usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

begin() {
    exec 9> "$prefix/releases/.lock"
    flock --nonblock 9 || fail "another installation is in progress"
    trap undo EXIT
    read_environment
}

read_environment() {
    local line
    [[ -e $prefix/environment ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        if [[ $line =~ ^[A-Za-z_][A-Za-z_0-9]*= ]]; then export "${line?}"; fi
    done < "$prefix/environment"
}

unpack() {
    echo "Installing $name ${release#*/} into $prefix/$release"
    rm -rf -- "${prefix:?}/$release" # left by a killed attempt
    mkdir "$prefix/$release"
    step copy cp -R "$here/etc" "$here/install.sh" "$prefix/$release"
<% if cookiecutter.systemd %>
    sed -i "s|/opt/$name|$prefix|g" "$prefix/$release"/etc/systemd/system/*
<% endif %>
    local venv=$prefix/$release/venv pip=("$here"/wheels/pip-*.whl)
    step venv python3 -m venv --without-pip "$venv"
    step pip "$venv/bin/python" "${pip[0]}/pip" --isolated --quiet install --no-index --no-deps \
        "$here"/wheels/*.whl
    # Import modules from the release's own folder: through the link they could change at run time.
    echo 'import os, sys; sys.path[:] = map(os.path.realpath, sys.path)' \
        > "$(echo "$venv"/lib/python*/site-packages)/release.pth"
}

<% if cookiecutter.database != "none" %>
require_url() {
    [[ -n ${DATABASE_URL:-} ]] || ! has_migrations ||
        fail "write DATABASE_URL=postgresql://... into $prefix/environment first"
}

# A wheel does not compress the names of its files.
has_migrations() {
    grep -aq "$name/migrations/[^/]*\.sql" "$here/wheels/$name"-*.whl
}

migrate() {
    has_migrations || return 0
    echo "Migrating the database"
    local output file venv=$prefix/$release/venv
    local files=("$venv"/lib/python*/site-packages/"$name"/migrations)
    export PGSSLMODE=${PGSSLMODE:-prefer}
    output=$("$venv/bin/dbmate" --no-dump-schema --migration-lock --migrations-dir "${files[0]}" \
        migrate 2>&1) && return
    file=$(echo "$output" | sed -n 's/^Applying: //p' | tail -n 1)
    fail "the migration${file:+ $file} failed: $(echo "$output" | tail -n 1)"
}

<% endif %>
check() {
    echo "Checking $name ${release#*/}"
    cd "$prefix/$release"
    step check venv/bin/python -P -m api_hour "$name:Container" --check
}

switch_over() {
    before=$(link_target current)
    switched=yes
    set_link current "$release"
    local master
    if master=$(live_pid "$prefix/$name.pid"); then
        upgrade "$master"
<% if cookiecutter.systemd %>
    elif is_active; then
        echo "Restarting the service behind its sockets"
        systemctl daemon-reload
        systemctl restart "$name.service" || fail "the new release did not start: see its journal"
<% endif %>
    else
        echo "Nothing serves from $prefix: start it with $(start_command)"
    fi
    finish_switch
    echo "$prefix/current is ${release#*/}"
}

# The switch is complete: there is nothing to undo any longer.
finish_switch() {
    [[ -z $before ]] || set_link previous "$before"
    created='' switched=''
}

# No rollback reaches further than the previous release.
remove_old() {
    local folder
    for folder in "$prefix"/releases/*/install.sh; do
        folder=${folder%/install.sh}
        is_linked "$folder" || {
            echo "Removing $name ${folder##*/}"
            rm -rf -- "$folder" || echo "install.sh: $folder could not be removed" >&2
        }
    done
}

is_linked() {
    [[ $1 -ef $prefix/current || $1 -ef $prefix/previous ]]
}

# Start a new master beside this one, on its sockets; stop this one once all new workers are ready.
upgrade() {
    local master=$1 new_pidfile=$prefix/$name.pid.2 new_pid='' started left
    echo "Starting a new master beside $master"
    rm -f "$prefix/notify" "$new_pidfile"
    # Without descriptor 9 there, the lock ends with this process.
    "$prefix/current/venv/bin/python" -c "$notify_listener" "$prefix/notify" "$timeout" \
        > "$prefix/notify.log" 9>&- &
    listener=$!
    until [[ -S $prefix/notify ]]; do sleep 0.05; done
    kill -USR2 "$master"
    for ((left = timeout * 20; left > 0; left--)); do
        sleep 0.05
        new_pid=$(live_pid "$new_pidfile") || true
        # It may have come and gone in between.
        started=$(sed -n 's/ STATUS=Starting$//p' "$prefix/notify.log" | tail -n 1)
        [[ -z $started || -n $new_pid || -e /proc/$started ]] ||
            fail "the new master exited: see its log"
        [[ -z $new_pid ]] ||
            ! grep -Eq "^$new_pid STATUS=([0-9]+) of \1 workers ready" "$prefix/notify.log" || break
    done
    if ((left == 0)); then
        [[ -z $new_pid ]] || kill "$new_pid"
        fail "the new master was not ready within $timeout s: see its log"
    fi
    finish_switch
    kill "$master"
    until [[ $(live_pid "$prefix/$name.pid") == "$new_pid" ]]; do sleep 0.05; done
}

# Print each sd_notify(3) message with the process id of its sender.
notify_listener='
import signal, socket, struct, sys
signal.alarm(int(sys.argv[2]))  # even if the installer is killed
messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
messages.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
messages.bind(sys.argv[1])
while True:
    data, extra, _, _ = messages.recvmsg(4096, socket.CMSG_SPACE(12))
    for line in data.decode().splitlines():
        print(struct.unpack("3i", extra[0][2])[0], line, flush=True)
'

<% if cookiecutter.systemd %>
is_active() {
    local shown
    shown=$(unit) &&
        [[ $shown == *"WorkingDirectory=$prefix/current"* && $shown != *ActiveState=inactive* ]]
}

unit() {
    systemctl show --property=ActiveState,WorkingDirectory "$name.service" 2> /dev/null
}

<% endif %>
start_command() {
<% if cookiecutter.systemd %>
    local shown
    shown=$(unit) || shown='no systemd'
    case $shown in
        *"WorkingDirectory=$prefix/current"*) echo "systemctl start $name" ;;
        *WorkingDirectory=/* | 'no systemd') echo "$prefix/current/install.sh serve" ;;
        *) echo "systemctl enable --now $prefix/current/etc/systemd/system/*" ;;
    esac
<% else %>
    echo "$prefix/current/install.sh serve"
<% endif %>
}

link_target() {
    readlink "$prefix/$1" || true
}

# Renaming a link over the other one is atomic.
set_link() {
    if [[ -n $2 ]]; then
        ln -sfn "$2" "$prefix/.$1" && mv -fT "$prefix/.$1" "$prefix/$1"
    else
        rm -f "$prefix/$1"
    fi
}

# Print the number in a pid file if it is that of a master of this prefix. A stale file may hold the
# number of any process, and none but ours is ever signalled: the command line tells.
live_pid() {
    local pid argument ours='' served=''
    pid=$(cat "$1" 2> /dev/null) && [[ $pid =~ ^[1-9][0-9]*$ && -r /proc/$pid/cmdline ]] || return 1
    while IFS= read -r -d '' argument; do
        [[ $argument != "$name:Container" ]] || ours=yes
        argument=${argument#--pid=}
        [[ ${argument##*/} != "$name.pid" || ! ${argument%/*} -ef $prefix ]] || served=yes
    done < "/proc/$pid/cmdline"
    [[ $ours && $served ]] && echo "$pid"
}

step() {
    local output what=$1
    shift
    output=$("$@" 2>&1) || fail "the $what failed: $(echo "$output" | tail -n 1)"
}

fail() {
    local kept=$before
    [[ -n $kept ]] || kept=$(link_target current)
    echo "install.sh: $1${kept:+; ${kept#*/} stays current}" >&2
    exit 1
}

undo() {
    [[ -z $listener ]] || kill "$listener" 2> /dev/null || true
    if [[ -n $switched ]]; then
        set_link current "$before"
<% if cookiecutter.systemd %>
        if is_active; then systemctl restart "$name.service"; fi
<% endif %>
    fi
    [[ -z $created ]] || rm -rf -- "${prefix:?}/$created"
}

main "$@"
