// Package v1alpha1 holds the first form of the node operations,
// operations.kubeedge.io/v1alpha1 NodeUpgradeJob and ImagePrePullJob.
//
// The apiserver serves it but stores v1alpha2; there is no conversion besides
// the apiVersion, so each version sees the fields that its own schema has. The
// words of the state machine (State, Action and the Event constants) are also
// those of the messages that edge nodes of 1.16 to 1.20 understand
// (spec 10 §A.3, §E).
//
// +k8s:deepcopy-gen=package
// +groupName=operations.kubeedge.io
package v1alpha1
