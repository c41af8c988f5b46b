// Package v1alpha1 is the configuration file of cloudcore, cloudcore.yaml, as Go types.
//
// Every key that a released file may carry is a field here, also those which only sized the
// insides of other implementations: they load, print and survive a round trip, and the text of
// their doc tag says that they have no effect. A field's `doc` tag is the comment that the
// printed configurations carry, its `unit` tag the unit of the number.
//
// The life of a configuration: Default gives the values of absent keys; a loader decodes a file
// on top of it; Derive computes what depends on nodeLimit; Validate reports every error at once
// and Warnings everything suspicious that must not stop a file which used to work;
// CleanAddresses settles the names of the serving certificate. After that the value is shared
// and nobody writes to it.
//
// The package does no decoding and reads no file content. Validate looks whether named files
// exist, nothing more. spec 01 §4, §6 and §15.1 are the source of names, values and rules.
package v1alpha1
