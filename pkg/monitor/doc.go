// Package monitor serves what operators and their tools look at: metrics, health and, when
// asked for, Go profiles, over plain HTTP (spec 01 §13).
//
// /metrics shows the registry that was passed in. /readyz tells whether the process does its work:
// every named check, one for each module, must pass; /readyz/NAME asks a single one. /livez and
// /healthz tell whether the process is worth keeping: they show the same checks but don't count
// them, since a restart mends nothing that a module waits for. All list the checks with ?verbose.
//
// The server is never a reason not to run cloudcore: while its address is taken it warns and
// tries again, and an empty address switches it off.
package monitor
