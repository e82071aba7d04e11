#!/usr/bin/env bash
# Starts a group on this machine: packages, models, Ray, deployment; returns when every model answers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command="up"
arguments=()
for argument in "$@"; do
    if [ "$argument" = "-h" ] || [ "$argument" = "--help" ]; then
        cat <<'HELP'
usage: scripts/start.sh [CONFIG] [--port PORT] [--foreground]
       scripts/start.sh --doctor [CONFIG] [--port PORT]

Makes .venv, installs GroupQwen into it, fetches the models of CONFIG (default: configs/local.yaml), starts Ray on
this machine when it does not run yet, deploys the group, waits until every model answers, and prints how to use it.
Safe to run again: what is there already is kept, and a changed CONFIG is deployed over the running one.

  CONFIG         a Serve config file
  --port PORT    HTTP port, in place of the config's
  --foreground   stay, and stop the group on Ctrl-C
  --doctor       look at this machine and at CONFIG, say what to fix, and start and install nothing but an empty .venv

GROUPQWEN_HOME (default ~/.groupqwen) is where models, database and run files are kept. scripts/stop.sh stops it all.
HELP
        exit 0
    elif [ "$argument" = "--doctor" ]; then
        command="doctor"
    else
        arguments+=("$argument")
    fi
done
if [ "$command" = doctor ]; then
    scripts/setup.sh --empty
else
    scripts/setup.sh
fi
exec .venv/bin/python -m serve.launch "$command" ${arguments[@]+"${arguments[@]}"}
