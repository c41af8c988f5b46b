// Command bench measures cloudcore against its budgets: memory of an idle node, processor time of a lease renewal, time
// from the creation of a pod to its arrival at the edge, one ConfigMap for all nodes, calls of kube-apiserver, duplicate
// pushes, and all nodes connecting again at once.
//
//	go -C tests run ./bench -bin DIR [-scenario 500x1000,2000x4000] [-json FILE] [-profiles DIR]
//
// A scenario is a number of nodes and of pods. Each gets a control plane (localcluster), a cloudcore as a process of its
// own, and simulated edges in the process of the bench, all on loopback and in a folder that is removed at the end.
//
// Times include what the machine and kube-apiserver cost. Next to the time to the edge stands therefore the floor: when
// an ordinary watch in the same process saw the same pod. The budget is for what cloudcore adds to it, pod by pod. Only
// counts (duplicate pushes, calls for each pod, differences of stores) decide about the exit code; times and sizes are
// shown as MISS, and the reader judges with the load average, which is in the table.
//
// The bench does not compare with earlier runs.
package main
