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
#
# As root, it lets the system user << cookiecutter.project_slug >>, or SERVICE_USER, do what needs no root: checks<< ", migrations" if cookiecutter.database != "none" >>
# and serving. That user owns PREFIX/run; all else must be root's and writable by nobody else.
<% if cookiecutter.database != "none" %>
# A rollback does not undo migrations: the previous release must work with them.
<% endif %>
[ -n "$BASH_VERSION" ] || exec bash "$0" "$@" # sh install.sh
set -euo pipefail

name=<< cookiecutter.project_slug >>
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=${PREFIX:-/opt/$name}
user=${SERVICE_USER:-$name} # who does what needs no root, if root runs this
timeout=90 # seconds for a new master to be ready; boot_timeout ends it sooner
created='' switched='' before='' listener='' # what undo() has to undo
as_user=()                                   # the command that gives up root's rights for another
terminal=''                                  # whether root has one, which is not for that user

main() {
    [[ $prefix == /* ]] || prefix=$PWD/$prefix
    [[ -d $here/wheels ]] || prefix=${here%/releases/*} # already installed
    run=$prefix/run
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
    enter "$prefix/$release"
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
    enter "$prefix/$release"
    check
    switch_over
}

# Started through the link: at USR2 the master starts the release that the link then points to.
serve() {
    cd / # Python would import what anybody put into the caller's folder
    refuse_foreign_files
    find_user
    read_environment
    enter "$prefix/current"
    export NOTIFY_SOCKET=$run/notify
    service+=("$prefix/current/venv/bin/python" -P -m api_hour "$name:Container"
        --pid "$run/$name.pid")
    exec 3< "$environment"
    [[ -n $terminal ]] || exec "${service[@]}"
    "${service[@]}"
}

# Print the comment at the top of this file.
usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

begin() {
    cd /      # Python would import what anybody put into the caller's folder
    umask 022 # the daemon runs as another user
    refuse_foreign_files
    mkdir -p "$prefix/releases" 2> /dev/null || true
    [[ -w $prefix/releases ]] ||
        fail "you may not write to $prefix: run this as root, or name a folder of your own in PREFIX"
    exec 9<> "$prefix/releases/.lock"
    flock --nonblock 9 || fail "another installation is in progress"
    trap undo EXIT
    [[ ! -e $prefix/$name.pid ]] ||
        fail "an earlier install.sh started the daemon of $prefix/$name.pid: stop it, remove that file" \
            "if it is still there, and try again"
    find_user
    read_environment
    refuse_changed_environment
}

# Before root looks at what PREFIX holds: fail if it may be somebody else's word.
refuse_foreign_files() {
    local file
    ((EUID == 0)) || return 0 # whose rights are no more than those of the files' owners
    for file in '' environment releases releases/.lock current previous; do
        refuse_foreign "$prefix/$file"
    done
}

# Fail if anybody but root decides which file a path is, or what is in it: every step of it, links
# followed, must be root's and writable by nobody else. In a folder such as /tmp nobody renames or
# removes what is another's, but anybody may take a name that is free.
refuse_foreign() {
    local rest=$1/ folder='' place found uid mode owner ours links=0
    while [[ -n $rest ]]; do
        place=${rest%%/*} rest=${rest#*/}
        case $place in
            '' | .) continue ;;
            ..) folder=${folder%/*} && continue ;;
        esac
        place=$folder/$place
        found=$(LC_ALL=C stat --format '%u %a %U' -- "$place" 2>&1) || {
            [[ $found == *'No such file or directory' ]] || refuse "$found"
            [[ ! -k $folder/ ]] || refuse "anybody may make $place before root does: make it first"
            return 0
        }
        uid=${found%% *} owner=${found##* } mode=${found#* }
        mode=${mode% *}
        [[ $place/ != "$prefix"/* ]] || ours=", or give it to root (chown -h root: $place)"
        [[ $uid == 0 ]] || refuse "$place belongs to $owner (user $uid), and root trusts root alone:" \
            "take another PREFIX, or run this as that user${ours:-}"
        if [[ -L $place ]]; then
            ((++links < 40)) || refuse "$place is a link to itself"
            rest=$(readlink -- "$place")/$rest
            [[ $rest != /* ]] || folder=''
            continue
        fi
        ((!(8#$mode & 8#022))) || [[ -d $place && -k $place ]] || refuse \
            "others than root may write to $place (mode $mode): take another PREFIX, or forbid it" \
            "(chmod go-w $place)"
        folder=$place
    done
}

# fail() names the current release, which it reads from PREFIX.
refuse() {
    echo "install.sh: $*" >&2
    exit 1
}

# Choose who does what needs no root, and has PREFIX/run. Root opens nothing in that folder.
find_user() {
    local gid home
    if ((EUID == 0)); then
        id -u -- "$user" > /dev/null 2>&1 || make_user
        uid=$(id -u -- "$user") gid=$(id -g -- "$user")
        home=$(getent passwd "$user" | cut -d : -f 6)
<% if cookiecutter.systemd %>
        ((uid < 61184 || uid > 65519)) || # of DynamicUser=
            fail "the user $user exists only while its service runs: stop that, or set SERVICE_USER"
<% endif %>
        ((uid)) || [[ -n ${SERVICE_USER:-} ]] || fail "$name is root: name another SERVICE_USER"
        ((!uid)) || as_user=(
            env "HOME=$home" "USER=$user" "LOGNAME=$user" setpriv "--reuid=$uid" "--regid=$gid"
            --init-groups --inh-caps=-all --bounding-set=-all --no-new-privs --
        )
        ((!uid)) || ! has_terminal || leave_terminal
        [[ -e $run || -L $run ]] || { mkdir -m 700 "$run" && chown "$uid:$gid" "$run"; }
    else
        uid=$EUID user=$(id -un)
        [[ -e $run || -L $run ]] || mkdir -m 700 "$run"
    fi
    [[ -d $run && ! -L $run && $(stat -c %u "$run") == "$uid" ]] ||
        fail "$run must be a folder of $user, who serves: name its owner in SERVICE_USER, or" \
            "stop the service and remove it"
    # What is in environment acts on no process of root: neither LD_PRELOAD nor PATH.
    # shellcheck disable=SC2016 # for the child to expand
    service=(${terminal:+attend} "${as_user[@]}" bash -c '
        while IFS= read -r line || [[ -n $line ]]; do
            [[ -z $line || $line == "#"* ]] || export "$line"
        done <&3
        exec "$@" 3<&- 9>&-
    ' "$name")
}

has_terminal() {
    local stat
    stat=$(< "/proc/$$/stat")
    [[ ! ${stat##*)} =~ ^(\ [^ ]+){4}\ 0\  ]] # the fifth field after the name, see proc(5)
}

# Whoever has root's terminal can push keystrokes into root's shell, and whoever has a descriptor to
# read from it can take them away. In a session of its own a process has no terminal.
leave_terminal() {
    terminal=yes as_user=(setsid --wait "${as_user[@]}")
    exec < /dev/null
    [[ ! -t 1 ]] || exec > /dev/fd/1 # the same, but only to write
    [[ ! -t 2 ]] || exec 2> /dev/fd/2
}

# Run a command of the service's user in its own session, where no Ctrl-C and no end of the terminal
# reaches it: pass them on, and wait until it has ended. As a child it leads no process group, so
# setsid does not fork, and $! is the command itself.
attend() {
    local status=0 signalled=yes
    trap 'signalled=yes; send TERM "$!" || true' INT QUIT TERM HUP
    env --default-signal=INT,QUIT "$@" & # bash ignores them in the background
    while [[ -n $signalled ]]; do
        signalled='' status=0
        wait "$!" || status=$?
    done
    return "$status"
}

make_user() {
    local output
    [[ -z ${SERVICE_USER:-} ]] || fail "there is no user $user: make it, or name another SERVICE_USER"
    [[ ! -e $run ]] || fail "there is no user $user: name the owner of $run in SERVICE_USER"
    output=$(PATH=$PATH:/usr/sbin useradd --system --user-group --no-create-home \
        --home-dir /nonexistent --shell /usr/sbin/nologin "$user" 2>&1) ||
        fail "no system user $user could be made: ${output##*$'\n'}; make it, or set SERVICE_USER"
    echo "Made the system user $user, who serves"
}

# Refuse what would be ignored in silence. The file may be for root's eyes only.
read_environment() {
    local line number=0
    environment=$prefix/environment
    [[ -e $environment ]] || environment=/dev/null
    [[ -r $environment ]] || fail "you may not read $environment: run this as root"
    while IFS= read -r line || [[ -n $line ]]; do
        ((++number))
        [[ -z $line || $line == '#'* || $line =~ ^[A-Za-z_][A-Za-z_0-9]*= ]] ||
            fail "$environment:$number: write NAME=value, or # before a comment"
        [[ $line != *=\"*\" && $line != *=\'*\' && $line != *$'\r' ]] ||
            fail "$environment:$number: write the value without quotes, and end lines as Unix does"
    done < "$environment"
}

# A new master begins with the environment of the old one, so what has changed would be ignored.
refuse_changed_environment() {
    local line master
    master=$(live_pid "$run/$name.pid") || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        [[ -z $line || $line == '#'* ]] || grep -qzxF -e "$line" "/proc/$master/environ" ||
            fail "$environment has changed since the daemon started, and only a start reads it: stop" \
                "the daemon (kill $master), and try again"
    done < "$environment"
}

# Fail if the service's user cannot get there; a message of the daemon would not say why.
enter() {
    cd "$1"
    "${as_user[@]}" test -x "$1/venv/bin/python" ||
        fail "$user may not run $1/venv/bin/python: let others into all folders of its path, and of" \
            "the Python to which it links ($(readlink -f "$1/venv/bin/python"))"
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
    step venv python3 -I -m venv --without-pip "$venv"
    step pip "$venv/bin/python" -I "${pip[0]}/pip" --isolated --quiet install --no-index --no-deps \
        "$here"/wheels/*.whl
    # Import modules from the release's own folder: through the link they could change at run time.
    echo 'import os, sys; sys.path[:] = map(os.path.realpath, sys.path)' \
        > "$(echo "$venv"/lib/python*/site-packages)/release.pth"
}

<% if cookiecutter.database != "none" %>
require_url() {
    [[ -n ${DATABASE_URL:-} ]] || grep -q ^DATABASE_URL=. "$environment" || ! has_migrations ||
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
    # This command refuses a DATABASE_URL of which dbmate would repeat the password.
    output=$("${service[@]}" "$venv/bin/python" -P -m api_hour.plugins.embedded -- \
        "$venv/bin/dbmate" --no-dump-schema --migration-lock --migrations-dir "${files[0]}" migrate \
        2>&1 3< "$environment") && return
    file=$(echo "$output" | sed -n 's/^Applying: //p' | tail -n 1)
    fail "the migration${file:+ $file} failed: $(echo "$output" | tail -n 1)"
}

<% endif %>
check() {
    echo "Checking $name ${release#*/}"
    step check "${service[@]}" venv/bin/python -P -m api_hour "$name:Container" --check \
        3< "$environment"
}

switch_over() {
    before=$(link_target current)
    switched=yes
    set_link current "$release"
    local master
    if master=$(live_pid "$run/$name.pid"); then
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
    created='' switched='' before=''
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
    local master=$1 new_pid='' ready=' ' sender message end=$((SECONDS + timeout))
    echo "Starting a new master beside $master"
    "${as_user[@]}" rm -f "$run/notify" "$run/$name.pid.2"
    # Without descriptor 9 there, the lock ends with this process.
    exec 8< <(exec "${as_user[@]}" "$prefix/current/venv/bin/python" -I -c "$notify_listener" \
        "$run/notify" "$timeout" 9>&-)
    listener=$!
    read -r -t "$timeout" _ <&8 || fail "nothing can listen on $run/notify"
    send USR2 "$master"
    until [[ -n $new_pid && $ready == *" $new_pid "* ]]; do
        if ((SECONDS > end)); then
            [[ -z $new_pid ]] || send TERM "$new_pid"
            fail "the new master was not ready within $timeout s: see its log"
        fi
        if read -r -t 0.05 sender message <&8; then
            [[ $sender != "$master" || $message != "STATUS=The new master is gone" ]] ||
                fail "the new master exited: see its log"
            [[ ! $message =~ ^STATUS=([0-9]+)\ of\ ([0-9]+)\ workers\ ready ||
                ${BASH_REMATCH[1]} != "${BASH_REMATCH[2]}" ]] || ready+="$sender "
        else
            sleep 0.05
        fi
        new_pid=$(live_pid "$run/$name.pid.2") || true
    done
    finish_switch
    send TERM "$master"
    end=$((SECONDS + timeout))
    until [[ $(live_pid "$run/$name.pid") == "$new_pid" ]]; do
        ((SECONDS <= end)) || fail "the old master $master did not stop within $timeout s, and the new" \
            "master $new_pid did not take its pid file: see their logs"
        sleep 0.05
    done
}

# What is in PREFIX/run is the word of the service's user, so the signal is, too: the kernel refuses
# it for a process of anybody else.
send() {
    # shellcheck disable=SC2016 # for the child to expand
    "${as_user[@]}" bash -c 'kill -s "$0" "$1"' "$1" "$2"
}

# Print each sd_notify(3) message with the process id of its sender.
notify_listener='
import signal, socket, struct, sys
signal.alarm(int(sys.argv[2]))  # even if the installer is killed
messages = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
messages.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
messages.bind(sys.argv[1])
print("Listening", flush=True)
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
    local serve="${SERVICE_USER:+SERVICE_USER=$SERVICE_USER }$prefix/current/install.sh serve"
<% if cookiecutter.systemd %>
    local shown
    shown=$(unit) || shown='no systemd'
    case $shown in
        *"WorkingDirectory=$prefix/current"*) echo "systemctl start $name" ;;
        *WorkingDirectory=/* | 'no systemd') echo "$serve" ;;
        *) echo "systemctl enable --now $prefix/current/etc/systemd/system/*" ;;
    esac
<% else %>
    echo "$serve"
<% endif %>
}

link_target() {
    readlink "$prefix/$1" || true
}

# Renaming a link over the other one is atomic.
set_link() {
    if [[ -n $2 ]]; then
        ln -sfT "$2" "$prefix/.$1" && mv -fT "$prefix/.$1" "$prefix/$1"
    else
        rm -f "$prefix/$1"
    fi
}

# Print the number in a pid file if it is that of a master of this prefix. A stale file may hold the
# number of any process, and none but ours is ever signalled: its owner and its command line tell.
live_pid() {
    local pid argument ours='' served=''
    # It may be a link, or a pipe at which a reader waits for ever.
    pid=$("${as_user[@]}" dd if="$1" bs=20 count=1 iflag=nonblock,nofollow 2> /dev/null | tr -d '\0') ||
        return 1
    [[ $pid =~ ^[1-9][0-9]*$ && $pid != 1 && $pid != "$$" && -r /proc/$pid/cmdline ]] || return 1
    [[ $(stat -c %u "/proc/$pid" 2> /dev/null) == "$uid" ]] || return 1
    while IFS= read -r -d '' argument; do
        [[ $argument != "$name:Container" ]] || ours=yes
        argument=${argument#--pid=}
        [[ ${argument##*/} != "$name.pid" || ! ${argument%/*} -ef $run ]] || served=yes
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
    echo "install.sh: $*${kept:+; ${kept#*/} stays current}" >&2
    exit 1
}

undo() {
    [[ -z $listener ]] || send TERM "$listener" 2> /dev/null || true
    if [[ -n $switched ]]; then
        set_link current "$before"
<% if cookiecutter.systemd %>
        if is_active; then systemctl restart "$name.service"; fi
<% endif %>
    fi
    [[ -z $created ]] || rm -rf -- "${prefix:?}/$created"
}

main "$@"
