// Package tunnelport agrees between cloudcore replicas on one kubelet port each.
//
// Nodes whose tunnel ends at a replica publish that replica's port (10351 and up) as their
// kubelet port. kube-apiserver dials it, and NAT rules lead it to the stream server of the
// replica. The agreement is the annotation of ConfigMap kubeedge/tunnelport, read and written
// also by other implementations and by the iptables manager (spec 01 §9): ports by address, and
// the set of ports ever given out.
//
// Negotiate keeps the port that an address already has, else takes the smallest free one.
// Replicas that start together settle by optimistic concurrency: who loses the race reads again
// and takes the next port, without waiting. While it writes anyway, it frees ports that nobody
// holds any more: those without an address, and addresses of pods that are gone. Other entries
// are left alone. Nothing is written when nothing needs to change.
//
// The second annotation of the object, PodsAnnotation, is ours: it names the addresses that
// were seen to belong to a pod of its own network. Only those can be known to be gone; the
// address of a host stays, whether or not cloudcore runs there at the moment.
package tunnelport
