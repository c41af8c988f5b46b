// Package v1 holds the routes of custom messages between cloud and edge:
// rules.kubeedge.io/v1 Rule and RuleEndpoint.
//
// A RuleEndpoint names a kind of place that messages come from or go to; a
// Rule joins two endpoints of its own namespace and says which path, topic or
// URL on either side. The four useful pairs are rest to eventbus, rest to
// servicebus, eventbus to rest and servicebus to rest (spec 07 §1.3). Neither
// kind has a status subresource: the counters of a Rule are written through
// the object itself.
//
// +k8s:deepcopy-gen=package
// +groupName=rules.kubeedge.io
package v1
