#!/bin/sh
# One process with everything in it, and a word about what to do with it. Usage: run.sh BIN DATA LISTEN
set -eu
cat <<T
Starting koalemos on $3, data in $2. Once it says "ready":

  A Prometheus (or an agent) pushes to it with
      remote_write:
        - url: http://$3/api/v1/write
  A shell pushes text with
      echo 'greeting{from="me"} 1' | curl --data-binary @- http://$3/api/v1/import/prometheus
  Grafana reads it as a data source of type Prometheus at
      http://$3
  a browser looks at
      http://$3/
  and so does curl:
      curl 'http://$3/api/v1/query?query=greeting'

Ctrl-C stops it; what it has acknowledged is there at the next start.

T
exec "$1/koalemos" serve --data-dir "$2" --listen "$3"
