package edgesim

import (
	"math/rand/v2"
	"time"
)

// SwapMode says when a push is processed after its later neighbour (spec 03 §6.4).
type SwapMode int

// Modes of swapping.
const (
	// SwapNever keeps the order of arrival.
	SwapNever SwapMode = iota
	// SwapRandom swaps a push with the next one, if one comes within Timing.SwapHold, in half of the cases.
	SwapRandom
	// SwapAlways does so whenever there is a next one.
	SwapAlways
)

// Faults are what goes wrong at a node. The zero value is a healthy node; SetFaults changes them at any time.
type Faults struct {
	// DropAcks is the fraction of acknowledgements that are not sent, DelayAcks how long each waits, AckJitter a random
	// delay on top (which reorders them), DuplicateAcks how many copies follow.
	DropAcks      float64
	DelayAcks     time.Duration
	AckJitter     time.Duration
	DuplicateAcks int
	// FailStore is the fraction of pushes that cannot be stored, which the edge answers with an error.
	FailStore float64
	// Only limits the faults above to resources that it accepts; nil accepts all. It is called under a lock and must
	// not call the node.
	Only func(resource string) bool

	// Swap processes neighbours in the wrong order; SwapAnswers does so with answers to requests too.
	Swap        SwapMode
	SwapAnswers bool
	// FIFO replaces Limits.FIFO if it is not zero.
	FIFO int
	// StallFIFO leaves messages in the receive queue, which overflows by dropping its oldest.
	StallFIFO bool
	// StallReads stops reading the socket, so that TCP pushes back.
	StallReads bool
	// HalfOpen stops reading and discards what is written: the peer hears nothing more, and nothing is closed.
	HalfOpen bool
	// NoPodStatus keeps the kubelet from reporting pods and from deleting them.
	NoPodStatus bool
	// ClockSkew is added to the node's clock.
	ClockSkew time.Duration
}

// SetFaults replaces the faults in force.
func (n *Node) SetFaults(f Faults) {
	n.faults.Store(&f)
	n.fifo.setCap(f.fifo(n.opts.Limits))
	n.gate.set(f.StallReads || f.HalfOpen, f.HalfOpen)
	n.wake()
}

// Faults returns the faults in force.
func (n *Node) Faults() Faults { return *n.faults.Load() }

func (f *Faults) fifo(l Limits) int {
	if f.FIFO > 0 {
		return f.FIFO
	}
	return l.FIFO
}

func (f *Faults) hits(fraction float64, resource string, r *rand.Rand) bool {
	if fraction <= 0 || (f.Only != nil && !f.Only(resource)) {
		return false
	}
	return fraction >= 1 || r.Float64() < fraction
}

// ackDelay is how long one acknowledgement for resource waits.
func (f *Faults) ackDelay(resource string, r *rand.Rand) time.Duration {
	if f.Only != nil && !f.Only(resource) {
		return 0
	}
	d := f.DelayAcks
	if f.AckJitter > 0 {
		d += time.Duration(r.Int64N(int64(f.AckJitter)))
	}
	return d
}

func (f *Faults) ackCopies(resource string) int {
	if f.DuplicateAcks <= 0 || (f.Only != nil && !f.Only(resource)) {
		return 1
	}
	return 1 + f.DuplicateAcks
}

// swaps says whether a push is held back for its neighbour.
func (f *Faults) swaps(r *rand.Rand) bool {
	return f.Swap == SwapAlways || (f.Swap == SwapRandom && r.IntN(2) == 0)
}
