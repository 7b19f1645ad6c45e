#!/bin/sh
# Installs Dayspring from the bundle that this file lies in. See README.txt. PYTHON names another interpreter.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "dayspring: there is no $python here. Name an interpreter: PYTHON=/path/to/python sh install.sh" >&2
    exit 1
fi
exec "$python" -I "$here/install.py" "$@"
