#!/bin/sh
# Install the Debian packages that the tests use and that are missing: when root or sudo allows, else one line says what to install.
# With --demo only what the demonstration gains from: without these it says what it leaves out. With --brokers also what other brokers take.
PATH=$PATH:/usr/sbin:/usr/local/sbin
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need openssl openssl
need mosquitto mosquitto
if [ "$1" != --demo ]; then
    need mosquitto_pub mosquitto-clients
    need tshark tshark
    need zsh zsh
    need fish fish
    need systemctl systemd
    need g++ g++
    if [ "$1" = --brokers ]; then
        need javac default-jdk-headless
        need rabbitmq-server rabbitmq-server
        need haproxy haproxy
    fi
    ls /usr/lib/*/libnss_wrapper.so >/dev/null 2>&1 || missing="$missing libnss-wrapper"
fi
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install (names of Debian's packages):$missing" >&2
    exit 0
fi
if [ "$(id -u)" = 0 ]; then run=; elif sudo -n true 2>/dev/null; then run="sudo -n"; else
    echo "setup: to go on with everything, run: sudo apt-get install$missing" >&2
    exit 0
fi
echo "setup: installing Debian packages:$missing"
# A package that starts a broker of its own on port 1883 is not wanted here: policy-rc.d is asked by Debian's scripts before they start a service.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $run tee $policy >/dev/null && $run chmod 755 $policy
    trap '$run rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { $run apt-get update -q && $run apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    echo "setup: apt-get could not install$missing; its last line: $(tail -n 1 "$log")" >&2
fi
rm -f "$log"
# The tests start these themselves; Debian's own, RabbitMQ's with its user guest, are not to start with the machine.
for service in rabbitmq-server haproxy; do
    case "$missing" in *"$service"*)
        [ ! -d /run/systemd/system ] || $run systemctl disable --quiet "$service" ;;
    esac
done
