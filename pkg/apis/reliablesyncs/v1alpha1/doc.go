// Package v1alpha1 holds the records of what every edge node has been given:
// reliablesyncs.kubeedge.io/v1alpha1 ObjectSync and ClusterObjectSync.
//
// One record stands for one object on one node. It is created before the
// object is first sent, carries the resource version that the node confirmed
// last, and goes away after the node confirmed the deletion. An ObjectSync
// lives in the namespace of its object, a ClusterObjectSync stands for an
// object without a namespace. A record is found by name alone:
// "<node name>.<uid of the object>".
//
// The wire form is that of the clusters in the field (spec 03 §9): records
// written by other releases of the cloud side are read and continued.
//
// +k8s:deepcopy-gen=package
// +groupName=reliablesyncs.kubeedge.io
package v1alpha1
