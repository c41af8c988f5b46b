#!/usr/bin/env bash
# The demonstration of `make run`: a real control plane, cloudcore and three simulated edge nodes on loopback, a
# Deployment with a ConfigMap and a Secret on them, and what came of it. Runs until Ctrl-C; with ONCE=1 it ends after
# the demonstration, with exit code 0 only if every pod ran. Everything it starts ends with it; data is in .run/.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD bin=$PWD/bin
dir=${RUN_DIR:-$root/.run}
nodes=3 replicas=6
hub=${HUB_PORT:-10000} https=${HTTPS_PORT:-10002} monitor=${MONITOR_PORT:-9091}
pids=()

say() { printf '\n== %s\n' "$*"; }
die() { printf 'run: %s\n' "$*" >&2; exit 1; }

stop() {
	code=$?
	trap - EXIT INT TERM
	[ ${#pids[@]} -eq 0 ] || say "Stopping"
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do # the last started first
		kill -TERM "${pids[i]}" 2>/dev/null || true
		wait "${pids[i]}" 2>/dev/null || true
	done
	rm -rf "$dir"
	exit "$code"
}
trap stop EXIT
trap 'exit 0' INT TERM

for tool in cloudcore edgesim localcluster kubectl; do
	[ -x "$bin/$tool" ] || die "bin/$tool is missing, run: make build"
done
for port in "$hub" "$https" "$monitor"; do
	if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
		die "port $port on 127.0.0.1 is in use; free it, or set HUB_PORT, HTTPS_PORT or MONITOR_PORT"
	fi
done
mkdir -p "$dir"
export KUBECONFIG=$dir/cluster/admin.conf

# await SECONDS WHAT COMMAND...: tries the command until it succeeds.
await() {
	local limit=$1 what=$2 begun=$SECONDS
	shift 2
	until "$@" >/dev/null 2>&1; do
		for p in "${pids[@]}"; do kill -0 "$p" 2>/dev/null || die "a process ended while waiting for $what; logs were in $dir: $(tail -n 3 "$dir"/*.log)"; done
		((SECONDS - begun < limit)) || die "$what: not after $limit s; last lines: $(tail -n 5 "$dir"/*.log)"
		sleep 0.2
	done
}

say "Starting a control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler)"
"$bin/localcluster" --dir "$dir/cluster" > >(tee "$dir/localcluster.log") 2>&1 &
pids+=($!)
await 180 "the control plane" grep -q '^ready: ' "$dir/localcluster.log"
"$bin/kubectl" apply --server-side -R -f config/crds >/dev/null
"$bin/kubectl" wait --for=condition=Established --timeout=60s crd --all >/dev/null

say "Starting cloudcore"
cat >"$dir/cloudcore.yaml" <<CONFIG
apiVersion: cloudcore.config.kubeedge.io/v1alpha1
kind: CloudCore
commonConfig: {monitorServer: {bindAddress: "127.0.0.1:$monitor"}}
kubeAPIConfig: {kubeConfig: "$KUBECONFIG"}
modules:
  cloudHub:
    advertiseAddress: [127.0.0.1]
    websocket: {address: 127.0.0.1, port: $hub}
    https: {address: 127.0.0.1, port: $https}
    tlsCAFile: $dir/none/ca.crt
    tlsCAKeyFile: $dir/none/ca.key
    tlsCertFile: $dir/none/server.crt
    tlsPrivateKeyFile: $dir/none/server.key
    unixsocket: {address: "unix://$dir/kubeedge.sock"}
  deviceController: {enable: false}
CONFIG
"$bin/cloudcore" --config "$dir/cloudcore.yaml" >"$dir/cloudcore.log" 2>&1 &
pids+=($!)
await 60 "cloudcore" bash -c "exec 3<>/dev/tcp/127.0.0.1/$https"

say "Starting $nodes simulated edge nodes"
"$bin/edgesim" --cloud 127.0.0.1 --hub-port "$hub" --https-port "$https" --nodes $nodes --prefix edge \
	--kubeconfig "$KUBECONFIG" >"$dir/edgesim.log" 2>&1 &
pids+=($!)
await 120 "all nodes Ready" bash -c "[ \$('$bin/kubectl' get nodes --no-headers | grep -cw Ready) -eq $nodes ]"
"$bin/kubectl" get nodes

say "Creating a Deployment of $replicas pods with a ConfigMap and a Secret"
await 60 "the default service account" "$bin/kubectl" get serviceaccount default
begun=$(date +%s%N)
"$bin/kubectl" apply -f config/samples/demo.yaml
await 120 "the Deployment" bash -c "[ \"\$('$bin/kubectl' get deployment demo -o jsonpath='{.status.readyReplicas}')\" = $replicas ]"
ended=$(date +%s%N)
"$bin/kubectl" get pods -o wide

say "Done: $replicas of $replicas pods Running, $(((ended - begun) / 1000000)) ms after the Deployment was created"
if metrics=$(exec 3<>"/dev/tcp/127.0.0.1/$monitor"; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3); then
	awk '/^cloudcore_delivery_change_to_write_seconds_sum/ {s=$2} /^cloudcore_delivery_change_to_write_seconds_count/ {n=$2}
		END {if (n) printf "cloudcore: %d changes, %.1f ms on average from seeing one to writing it to its node\n", n, 1000*s/n}' <<<"$metrics"
fi
if grep -E '^E[0-9]{4} ' "$dir/cloudcore.log"; then die "cloudcore logged errors"; fi

if [ "${ONCE:-}" = 1 ]; then exit 0; fi
cat <<TEXT

Look at it from another terminal:
  export KUBECONFIG=$KUBECONFIG
  $bin/kubectl get nodes,pods -o wide
  $bin/kubectl get objectsyncs -A
  curl http://127.0.0.1:$monitor/readyz?verbose
Logs: $dir/*.log.  Ctrl-C ends everything.
TEXT
wait -n "${pids[@]}" || true
die "a process ended by itself; last lines: $(tail -n 5 "$dir"/*.log)"
