// Package options is the command line of cloudcore and everything between it and a ready
// configuration: flags, the file, its printed forms, feature gates.
//
// NewCommand gives a command that answers the print flags itself and otherwise hands a *Startup
// to the function that runs cloudcore. Load reads a file the way released files need it
// (spec 01 §3): keys match without regard to case, unknown keys cost a warning each, null means
// "not given", lists replace, types are strict, and only the first YAML document counts.
//
// The decoder is our own on top of a YAML 1.1 parser, because going through JSON, as the common
// library does, loses positions, stops at the first wrong type and writes every alias out: a
// file of one MiB can ask for tens of GiB. Here a value is looked at only where the
// configuration has a key for it, and size, depth and lengths are bounded.
//
// Nothing here keeps state between calls but klog's flags, which belong to the process.
package options
