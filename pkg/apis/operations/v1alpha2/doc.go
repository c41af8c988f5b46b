// Package v1alpha2 holds the operations on many nodes,
// operations.kubeedge.io/v1alpha2 NodeUpgradeJob, ImagePrePullJob and
// ConfigUpdateJob.
//
// A job selects edge nodes and gives each of them the same task. A node works
// through a fixed flow of actions by itself and reports every action; the
// status of the job has one entry a node with the actions so far
// (spec 10 §A). The spec of a job is not meant to change after its creation.
//
// Objects written by releases that stored v1alpha1 appear with an empty phase
// and with the state of the old form, which the status types keep as
// LegacyStatus.
//
// +k8s:deepcopy-gen=package
// +groupName=operations.kubeedge.io
package v1alpha2
