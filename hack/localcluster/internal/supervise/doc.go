// Package supervise keeps one child process running.
//
// A Process is described by a Spec and driven by actions: it is up (wanted, and started again with backoff when it
// dies by itself), down (stopped on purpose) or paused (alive but not scheduled). Run owns the child and everything
// else that changes; Do and Snapshot may be called from any goroutine. Children lead a process group of their own, so
// that a Ctrl-C of the terminal reaches only the parent, and they die with the parent even when that is killed
// (parent-death signal, Linux only).
//
// The package does not know what the child does. Whether it serves is asked through Spec.Ready.
package supervise
