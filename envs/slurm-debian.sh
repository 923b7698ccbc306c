#!/bin/sh
# Installs SLURM (controller, node daemon, commands) and munge on Debian or Ubuntu, for the tests.
# Nothing is started: the tests start their own daemons on this machine alone, and stop them.
set -eu
if [ "$(id -u)" -ne 0 ]; then
    echo "Error: installing SLURM needs root; run: sudo $0" >&2
    exit 1
fi
if ! command -v apt-get > /dev/null; then
    echo "Error: this is not Debian or Ubuntu; install slurmctld, slurmd, the SLURM commands and munge" >&2
    exit 1
fi
# The packages would start daemons of their own; policy-rc.d says no while they are installed.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    munge slurm-client slurmctld slurmd > /dev/null
