// Package harness runs cloudcore as operators do, for tests: a real control plane (localcluster) and the real binary,
// built with the race detector, as child processes, with simulated edges in the process of the test.
//
// Boot gives an Environment, which a whole test package shares; Environment.Cloudcore starts one more cloudcore, and
// Cloudcore.Fleet edges that join it. All of them end with the test that started them. All cloudcores of an environment
// share the Secrets of the cluster and so have one CA: an edge may move between them. Tests keep apart by namespaces
// and node names, both from Environment.Name.
//
// What a cloudcore logs is kept. A data race, a panic and an error that the test did not announce (Options.Allow) fail
// the test, and so does anything that a simulated edge calls a violation. The log of a failed test is printed.
//
// Children die with the process that started them, even if it is killed.
package harness
