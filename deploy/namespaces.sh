#!/usr/bin/env bash
# Four network namespaces on a bridge, to try a deployment as on four machines. Needs root and iproute2.
#
#   deploy/namespaces.sh up      dealer 10.77.0.10, party1 10.77.0.11, party0 10.77.0.12, owner 10.77.0.13
#   ip netns exec party0 secureimg serve party0.toml
#   deploy/namespaces.sh down
set -euo pipefail

names=(dealer party1 party0 owner)

case "${1:-}" in
    up)
        ip link add simg type bridge
        ip link set simg up
        for i in "${!names[@]}"; do
            name=${names[$i]}
            ip netns add "$name"
            ip link add "simg$i" type veth peer name eth0 netns "$name"
            ip link set "simg$i" master simg up
            ip -n "$name" addr add "10.77.0.1$i/24" dev eth0
            ip -n "$name" link set eth0 up
            ip -n "$name" link set lo up
        done
        ;;
    down)
        for name in "${names[@]}"; do ip netns del "$name" 2>/dev/null || true; done
        ip link del simg 2>/dev/null || true
        ;;
    *)
        echo "usage: $0 up|down" >&2
        exit 2
        ;;
esac
