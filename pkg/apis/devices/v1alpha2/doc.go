// Package v1alpha2 describes the first form of the device objects,
// devices.kubeedge.io/v1alpha2.
//
// The apiserver still serves it, so that objects of releases up to 1.14 can be
// read and written, but nothing is stored in it and no edge node since 1.15
// asks for it. The package is the source of that schema and nothing else: it
// has no client and no scheme registration, and it is not extended.
//
// +groupName=devices.kubeedge.io
package v1alpha2
