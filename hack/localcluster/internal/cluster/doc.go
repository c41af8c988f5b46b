// Package cluster runs the control plane of Kubernetes on loopback: etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler, each as a child process of the same executable.
//
// A Cluster lives in one folder, which holds its keys, its database, its logs and the kubeconfig of its administrator
// (admin.conf). Run takes the folder (one Cluster at a time), starts the components in stages, reports each stage as
// a line, and stops them in reverse order when its context ends. Run again in the same folder and the data is there.
//
// While it runs, a control endpoint lets tests take single components down and up again. Its URL is in the file
// "control" of the folder and contains a secret, so that nothing else on the machine can use it.
package cluster
