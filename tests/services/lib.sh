# shellcheck shell=bash
# Sourced, not run: what the scripts of these folders share.
#
# A script installs what it needs into CACHE, calls `installed`, and then starts its service.
# It exits 75 when something could not be installed, and 1 when the service does not start.
set -euo pipefail

CACHE=${SERVICES_HOME:-$HOME/.cache/gibsey-services}
SERVICES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROJECT=$(cd "$SERVICES/../.." && pwd)
NOT_INSTALLED=75

phase=install
leave() { [ "$1" -eq 0 ] || [ "$phase" != install ] || exit "$NOT_INSTALLED"; }
trap 'leave $?' EXIT

# Everything is on this machine: a failure from here on is the service's own.
installed() { phase=start; }

# use_folder DIR: the service's files are in DIR.
use_folder() {
    [ $# -eq 1 ] || { phase=usage; echo "usage: $0 DIR" >&2; exit 2; }
    mkdir -p "$1"
    DIR=$(cd "$1" && pwd)
}

# quoted WORD...: prints a command line.
quoted() { local line; printf -v line '%q ' "$@"; echo "${line% }"; }

say() { echo "[$(basename "$DIR")] $*" >&2; }

# --- install

# once NAME COMMAND...: the command fills a new folder, which becomes CACHE/NAME when it is complete.
# The lock lets two runs share the cache.
once() {
    local folder=$CACHE/$1
    shift
    [ ! -d "$folder" ] || return 0
    mkdir -p "$(dirname "$folder")"
    exec 9>"$folder.lock"
    flock 9
    if [ ! -d "$folder" ]; then
        echo "installing ${folder#"$CACHE/"}" >&2
        rm -rf "$folder.part"
        mkdir "$folder.part"
        "$@" "$folder.part" >&2
        mv "$folder.part" "$folder"
    fi
    exec 9>&-
}

# maven_file COORDINATES FOLDER: copies one file; COORDINATES are group:artifact:version[:type[:classifier]].
maven_file() { mvn -q -B dependency:copy -Dartifact="$1" -DoutputDirectory="$2"; }

# maven_jars COORDINATES... FOLDER: copies jars and what they depend on.
maven_jars() {
    local folder=${*: -1} coordinates group artifact version
    {
        echo '<project><modelVersion>4.0.0</modelVersion><groupId>local</groupId><artifactId>jars</artifactId>'
        echo '<version>1</version><packaging>pom</packaging><dependencies>'
        for coordinates in "${@:1:$#-1}"; do
            IFS=: read -r group artifact version <<<"$coordinates"
            echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
        done
        echo '</dependencies></project>'
    } >"$folder/pom.xml"
    mvn -q -B -f "$folder/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder"
}

# python_with PACKAGE... FOLDER: makes a virtual environment with the packages.
python_with() {
    local folder=${*: -1}
    python3 -m venv "$folder"
    # Not bin/pip: it names the folder that this one is moved from.
    "$folder/bin/python" -m pip install -q "${@:1:$#-1}"
}

# Sets CLIENTS to a Python with the clients of Kafka and Cassandra.
install_clients() {
    once clients python_with confluent-kafka cassandra-driver
    CLIENTS=$CACHE/clients/bin/python
}

# debian_packages PROGRAM PACKAGE...: installs the packages if the program is missing.
debian_packages() {
    local program=$1
    shift
    ! command -v "$program" >/dev/null || return 0
    [ "$(id -u)" -eq 0 ] || { echo "Install it first: sudo apt-get install $*" >&2; return 1; }
    echo "installing $*" >&2
    mkdir -p "$CACHE"
    DEBIAN_FRONTEND=noninteractive sh -c 'apt-get -qq update && apt-get -qqy install --no-install-recommends "$@"' \
        sh "$@" >"$CACHE/apt.log" 2>&1 || { tail -20 "$CACHE/apt.log" >&2; return 1; }
}

# --- ports

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# port NAME: prints a free port. DIR remembers it, so that a restarted service has its old address.
port() {
    local file=$DIR/$1.port candidate
    if [ ! -s "$file" ]; then
        # Outside the range from which the system takes ports for connections.
        for candidate in $(shuf -i 20000-29999 -n 50); do
            answers "$candidate" || { echo "$candidate" >"$file"; break; }
        done
    fi
    cat "$file"
}

# --- processes

# A process is named by its id and its start time, because the system uses ids again.
identity() { awk '{ sub(/.*\) /, ""); if ($1 !~ /[ZX]/) print $20 }' "/proc/$1/stat" 2>/dev/null; }

pid_of() { cut -d' ' -f1 "$DIR/$1.pid"; }

# running NAME: whether the process that `start NAME` started still runs.
running() {
    local pid started
    read -r pid started 2>/dev/null <"$DIR/$1.pid" && [ "$(identity "$pid")" = "$started" ]
}

# start NAME COMMAND...: starts a process that outlives this script, unless it runs already.
start() {
    local name=$1
    shift
    ! running "$name" || return 0
    [ ! -e "$DIR/$name.log" ] || mv "$DIR/$name.log" "$DIR/$name.log.before"
    setsid nohup "$@" >"$DIR/$name.log" 2>&1 </dev/null &
    echo "$! $(identity $!)" >"$DIR/$name.pid"
}

# wait_until NAME SECONDS COMMAND...: waits until the command succeeds.
# It shows the end of the log and exits 1 if the process of that name ends first, or the time does.
wait_until() {
    local name=$1 give_up=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        running "$name" || { tail -20 "$DIR/$name.log" >&2; say "$name has ended"; exit 1; }
        [ "$SECONDS" -lt "$give_up" ] || { tail -20 "$DIR/$name.log" >&2; say "$name is not ready in time"; exit 1; }
        sleep 0.25
    done
}

# logged NAME TEXT: whether the log of this start has the text.
logged() { grep -qF "$2" "$DIR/$1.log"; }

# stop NAME: ends the process that `start NAME` started, with its children.
stop() {
    local pid
    if running "$1"; then
        pid=$(pid_of "$1")
        kill -- "-$pid"
        timeout 20 tail --pid="$pid" -f /dev/null || kill -KILL -- "-$pid" 2>/dev/null || true
    fi
    rm -f "$DIR/$1.pid"
}
