#!/usr/bin/env bash
# Put a release beside the one that serves, and let the service go over to it, or back.
#
#     PREFIX=/opt/<< cookiecutter.project_slug >> ./install.sh  from the unpacked archive
#     PREFIX/current/install.sh rollback    to the release before
#     PREFIX/current/install.sh serve       run the daemon, in the foreground
#
# It needs no network, and nothing but the Python that built the archive. PREFIX, which is
# /opt/<< cookiecutter.project_slug >> when you name none, holds releases/, current and previous, two links to releases,
# and environment, lines of NAME=value for the daemon. Of the releases it keeps these two.
# A step that fails leaves the release before serving, and says so in one line.
<% if cookiecutter.database != "none" %>
# What migrations did stays, also at a rollback: the release before must bear it.
<% endif %>
set -euo pipefail

name=<< cookiecutter.project_slug >>
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=${PREFIX:-/opt/$name}
patience=90 # seconds for a new master to be ready; boot_timeout ends it sooner
made='' moved='' before='' listener='' # what undo() has to undo

main() {
    [[ $prefix == /* ]] || prefix=$PWD/$prefix
    [[ -d $here/wheels ]] || prefix=${here%/releases/*} # it was installed
    case ${1:-install} in
        install) install ;;
        rollback) rollback ;;
        serve) serve ;;
        -h | --help) usage ;;
        *) fail "there is no $1: say nothing, rollback or serve" ;;
    esac
}

install() {
    [[ -d $here/wheels ]] || fail "run the install.sh of an unpacked archive"
    umask 022 # the daemon may be another user, who reads it
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
        fail "${release#*/} is there already: give the new one a new version"
    made=$release
    lay_out
<% if cookiecutter.database != "none" %>
    migrate
<% endif %>
    check
    go_over
    forget_old
}

rollback() {
    begin
    release=$(target previous)
    [[ -n $release ]] || fail "there is no release before"
    check
    go_over
}

# Started through the link: USR2 then starts what that points to by then.
serve() {
    read_environment
    cd "$prefix/current"
    export NOTIFY_SOCKET=$prefix/notify
    exec "$prefix/current/venv/bin/python" -m api_hour "$name:Container" --pid "$prefix/$name.pid"
}

# What this file begins with.
usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

begin() {
    exec 9> "$prefix/releases/.lock"
    flock --nonblock 9 || fail "another one is under way"
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

lay_out() {
    echo "Installing $name ${release#*/} into $prefix/$release"
    rm -rf -- "${prefix:?}/$release" # left by an attempt that was killed
    mkdir "$prefix/$release"
    cp -R "$here/etc" "$here/install.sh" "$prefix/$release"
<% if cookiecutter.systemd %>
    sed -i "s|/opt/$name|$prefix|g" "$prefix/$release"/etc/systemd/system/*
<% endif %>
    local venv=$prefix/$release/venv pip=("$here"/wheels/pip-*.whl)
    step venv python3 -m venv --without-pip "$venv"
    step pip "$venv/bin/python" "${pip[0]}/pip" --isolated --quiet install --no-index --no-deps \
        "$here"/wheels/*.whl
    # Modules come from the release's own folder: behind the link they would change under a daemon.
    echo 'import os, sys; sys.path[:] = map(os.path.realpath, sys.path)' \
        > "$(echo "$venv"/lib/python*/site-packages)/release.pth"
}

<% if cookiecutter.database != "none" %>
require_url() {
    [[ -n ${DATABASE_URL:-} ]] || ! has_migrations ||
        fail "write DATABASE_URL=postgresql://... into $prefix/environment first"
}

# A wheel's names of files are not compressed.
has_migrations() {
    grep -aq "$name/migrations/[^/]*\.sql" "$here/wheels/$name"-*.whl
}

migrate() {
    has_migrations || return 0
    echo "Migrating the database"
    local said file venv=$prefix/$release/venv
    local files=("$venv"/lib/python*/site-packages/"$name"/migrations)
    export PGSSLMODE=${PGSSLMODE:-prefer}
    said=$("$venv/bin/dbmate" --no-dump-schema --migration-lock --migrations-dir "${files[0]}" \
        migrate 2>&1) && return
    file=$(echo "$said" | sed -n 's/^Applying: //p' | tail -n 1)
    fail "the migration${file:+ $file} failed: $(echo "$said" | tail -n 1)"
}

<% endif %>
check() {
    echo "Checking $name ${release#*/}"
    cd "$prefix/$release"
    step check venv/bin/python -m api_hour "$name:Container" --check
}

go_over() {
    before=$(target current)
    moved=yes
    point current "$release"
    local master
    if master=$(living "$prefix/$name.pid"); then
        upgrade "$master"
<% if cookiecutter.systemd %>
    elif is_active; then
        echo "Restarting the service behind its sockets"
        systemctl daemon-reload
        systemctl restart "$name.service" || fail "the new one did not start: its journal says why"
<% endif %>
    else
        echo "Nothing serves from $prefix: start it with $(starter)"
    fi
    arrive
    echo "$prefix/current is ${release#*/}"
}

# From here on there is nothing to undo.
arrive() {
    [[ -z $before ]] || point previous "$before"
    made='' moved=''
}

# No rollback reaches a release before the one before.
forget_old() {
    local one
    for one in "$prefix"/releases/*/install.sh; do
        one=${one%/install.sh}
        is_linked "$one" || {
            echo "Removing $name ${one##*/}"
            rm -rf -- "$one" || echo "install.sh: $one could not be removed" >&2
        }
    done
}

is_linked() {
    [[ $1 -ef $prefix/current || $1 -ef $prefix/previous ]]
}

# Start a master beside this one, on its sockets; when all its workers are ready, end this one.
upgrade() {
    local master=$1 successor=$prefix/$name.pid.2 heir='' left
    echo "Starting a new master beside $master"
    rm -f "$prefix/notify" "$successor"
    # Closed there, the lock ends with this process.
    "$prefix/current/venv/bin/python" -c "$hear" "$prefix/notify" "$patience" \
        > "$prefix/told" 9>&- &
    listener=$!
    until [[ -S $prefix/notify ]]; do sleep 0.05; done
    kill -USR2 "$master"
    for ((left = patience * 20; left > 0; left--)); do
        sleep 0.05
        if [[ -e $successor ]]; then
            heir=$(living "$successor") || fail "the new master ended: its log says why"
        elif [[ -n $heir ]]; then
            fail "the new master ended: its log says why"
        fi
        ! grep -Eq "^$heir STATUS=([0-9]+) of \1 workers ready" "$prefix/told" || break
    done
    if ((left == 0)); then
        [[ -z $heir ]] || kill "$heir"
        fail "no new master was ready within $patience s: its log says why"
    fi
    arrive
    kill "$master"
    until [[ $(living "$prefix/$name.pid") == "$heir" ]]; do sleep 0.05; done
}

# What sd_notify(3) is told, and by whom.
hear='
import signal, socket, struct, sys
signal.alarm(int(sys.argv[2]))  # whatever becomes of the installer
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
told.bind(sys.argv[1])
while True:
    data, extra, _, _ = told.recvmsg(4096, socket.CMSG_SPACE(12))
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
starter() {
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

target() {
    readlink "$prefix/$1" || true
}

# Renaming a link over the other one is atomic.
point() {
    if [[ -n $2 ]]; then
        ln -sfn "$2" "$prefix/.$1" && mv -fT "$prefix/.$1" "$prefix/$1"
    else
        rm -f "$prefix/$1"
    fi
}

living() {
    local pid
    pid=$(cat "$1" 2> /dev/null) && kill -0 "$pid" 2> /dev/null && echo "$pid"
}

step() {
    local said what=$1
    shift
    said=$("$@" 2>&1) || fail "the $what failed: $(echo "$said" | tail -n 1)"
}

fail() {
    local kept=$before
    [[ -n $kept ]] || kept=$(target current)
    echo "install.sh: $1${kept:+; ${kept#*/} goes on}" >&2
    exit 1
}

undo() {
    [[ -z $listener ]] || kill "$listener" 2> /dev/null || true
    if [[ -n $moved ]]; then
        point current "$before"
<% if cookiecutter.systemd %>
        if is_active; then systemctl restart "$name.service"; fi
<% endif %>
    fi
    [[ -z $made ]] || rm -rf -- "${prefix:?}/$made"
}

main "$@"
