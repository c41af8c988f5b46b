// Package apis is the parent of the API types of cloudcore: one folder a
// group, one package a version.
//
//	componentconfig   the configuration file of the process
//	devices           devices behind edge nodes
//	operations        upgrades and other jobs on many nodes
//	policy            permissions that nodes enforce on their own
//	reliablesyncs     records of what each node has been given
//	rules             routes of custom messages between cloud and edge
//
// Everything but componentconfig lives in the apiserver. Clients, listers and
// informers in pkg/generated and the manifests in config/crds are made from
// these types: run hack/generate.sh after a change. The wire form is shared
// with clusters, edge nodes and tools in the field, so that a field is never
// renamed, removed or narrowed; Go names are free.
package apis
