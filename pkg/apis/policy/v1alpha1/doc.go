// Package v1alpha1 holds the permissions that edge nodes enforce on their own:
// policy.kubeedge.io/v1alpha1 ServiceAccountAccess.
//
// One object stands for one ServiceAccount, has its name and namespace, and
// carries the account together with every role binding that applies to it and
// the rules of the bound roles. Nodes that run pods of the account get a copy
// and answer authorization questions from it, also while offline. The object
// is written by the policy controller only (spec 09 §1, §2).
//
// +k8s:deepcopy-gen=package
// +groupName=policy.kubeedge.io
package v1alpha1
