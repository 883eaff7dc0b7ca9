#!/bin/sh
# A cluster on loopback: nats-server, a doorman, two ingestors, a querier. Ends with all of them when
# interrupted. Usage: run-cluster.sh BIN PEERS DIR   (programs, servers, where the data lies)
set -eu
bin=$1 peers=$2 dir=$3
conf=$(dirname "$0")/cluster.yaml
mkdir -p "$dir/nats" "$dir/store"
cat >"$dir/nats.conf" <<C
host: 127.0.0.1
port: 4222
http: "127.0.0.1:8222"
max_payload: 1MB
jetstream { store_dir: "$dir/nats", max_file_store: 20GB }
C
pids=
stop() { trap - INT TERM HUP EXIT; for p in $pids; do kill "${p%%:*}" 2>/dev/null || true; done; wait; }
trap stop EXIT
trap 'exit 0' INT TERM HUP

start() { name=$1; shift; "$@" >"$dir/$name.log" 2>&1 & pids="$!:$name $pids"; }

# Without this, whoever else listens on one of the ports would pass for ours.
all_run() {
    for p in $pids; do
        kill -0 "${p%%:*}" 2>/dev/null || {
            echo "${p#*:} has ended; its last words, of $dir/${p#*:}.log:" >&2
            tail -n 5 "$dir/${p#*:}.log" >&2
            exit 1
        }
    done
}

start nats       "$peers/nats-server" -c "$dir/nats.conf"
start doorman    "$bin/doorman" --config "$conf" --listen 127.0.0.1:4480
start ingestor-0 "$bin/ingestor" --config "$conf" --ingestor.name ingestor-0 --ingestor.zone a --listen 127.0.0.1:4481 \
                 --data-dir "$dir/ingestor-0" --store.dir "$dir/store"
start ingestor-1 "$bin/ingestor" --config "$conf" --ingestor.name ingestor-1 --ingestor.zone b --listen 127.0.0.1:4483 \
                 --data-dir "$dir/ingestor-1" --store.dir "$dir/store"
start querier    "$bin/querier" --config "$conf" --listen 127.0.0.1:4482 --store.dir "$dir/store"

for port in 4480 4481 4483 4482; do
    n=0
    until curl -fs "http://127.0.0.1:$port/-/ready" >/dev/null; do
        n=$((n + 1))
        all_run
        [ $n -lt 60 ] || { echo "no service became ready on port $port; its log is in $dir" >&2; exit 1; }
        sleep 0.5
    done
done
all_run
cat <<T
The cluster is up; logs and data are in $dir.
  agents push to   http://127.0.0.1:4480/api/v1/write         (Prometheus remote write)
  text goes to     http://127.0.0.1:4480/api/v1/import/prometheus
  dashboards ask   http://127.0.0.1:4482                      (as a Prometheus data source)
Ctrl-C ends all of it.
T
wait
