// Package session is the connection of one node to the hub: what goes out in order without ever blocking the sender,
// what comes in one message at a time, and an end with one reason.
//
// A Session owns at most three goroutines: the caller of Run, which reads; a writer, which exists only while there is
// something to write; and the timer that pings. An idle node costs one blocked goroutine.
//
// Liveness: any message counts, pongs don't, because a stuck EdgeCore still answers pings (spec 03 §3.2). Pings serve
// two other ends: a half-open link is found by the failing write, and a pong proves that the peer has read all that was
// written before its ping (Events.Read).
package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// Conn is an established connection that carries whole messages. Read is called by one goroutine, Write and Ping by
// one goroutine at a time, Close by any.
type Conn interface {
	// Read returns the next message. It fails after the deadline.
	Read(deadline time.Time) ([]byte, error)
	// Write writes one message and fails after its own write timeout.
	Write(f message.Frame) error
	// Ping writes a ping that carries payload; the pong is reported to the function given to OnPong.
	Ping(payload string) error
	// OnPong sets the receiver of pong payloads, called within Read.
	OnPong(func(payload string))
	// Close ends the connection at once, so that the peer's next write fails (spec 02 D8).
	Close()
}

// Reason says why a session ended. The reasons are a closed set, fit for a metric label.
type Reason string

// Reasons of ended sessions.
const (
	ReasonPeer        Reason = "peer"         // the edge closed the connection, or it broke
	ReasonSilent      Reason = "silent"       // no message within the keepalive interval
	ReasonReplaced    Reason = "replaced"     // the node connected again
	ReasonSlow        Reason = "slow"         // the edge takes less than it gets
	ReasonWrite       Reason = "write_failed" // writing failed or took too long
	ReasonMalformed   Reason = "malformed"    // the edge sent what is not a message
	ReasonNodeDeleted Reason = "node_deleted" // the Node object is gone
	ReasonShutdown    Reason = "shutdown"     // cloudcore stops
)

// Reasons lists all reasons.
func Reasons() []Reason {
	return []Reason{ReasonPeer, ReasonSilent, ReasonReplaced, ReasonSlow, ReasonWrite, ReasonMalformed, ReasonNodeDeleted, ReasonShutdown}
}

// Ended is the error by which a session ends.
type Ended struct {
	Reason Reason
	Err    error // what happened, if anything did
}

func (e *Ended) Error() string {
	if e.Err == nil {
		return "session ended: " + string(e.Reason)
	}
	return fmt.Sprintf("session ended: %s: %v", e.Reason, e.Err)
}

// Unwrap returns what happened.
func (e *Ended) Unwrap() error { return e.Err }

// Config tunes sessions.
type Config struct {
	// Silence is how long a session lives without any message of the edge.
	Silence time.Duration
	// PingPeriod is the mean time between two pings; 0 sends none.
	PingPeriod time.Duration
	// OutboxMessages and OutboxBytes bound what waits to be written. A session that exceeds one of them ends as slow.
	OutboxMessages, OutboxBytes int
}

// Handler receives what a session reads.
type Handler interface {
	// Receive takes one message of the edge. It may block, which stops the reading of this session only.
	Receive(ctx context.Context, m *message.Message)
	// Read says that the edge has read everything that was sent before t.
	Read(t time.Time)
}

// Session is one connection of one node. Its exported methods are safe for concurrent use.
type Session struct {
	// Set by New, then read-only.
	node   string
	conn   Conn
	cfg    Config
	ctx    context.Context // ends with the session
	cancel context.CancelCauseFunc

	writers sync.WaitGroup // the writer, while it runs

	mu      sync.Mutex // guards the fields below
	outbox  []item
	bytes   int
	writing bool
	cause   *Ended // set once
	pinger  *time.Timer
	pings   uint64    // sent so far; the number of the last one is its payload
	pinged  time.Time // when the last one was put into the outbox
	soon    bool      // the next ping was brought forward
}

// pingPause is how long PingSoon waits for others who want the same.
const pingPause = 500 * time.Millisecond

// item is one thing to write: a message, or a ping if ping is not 0.
type item struct {
	frame message.Frame
	ping  uint64
}

// New returns a session of node over conn. It ends at the latest when ctx ends.
func New(ctx context.Context, node string, conn Conn, cfg Config) *Session {
	s := &Session{node: node, conn: conn, cfg: cfg}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Node is the name of the node, taken from its certificate.
func (s *Session) Node() string { return s.node }

// Run reads messages until the session ends and returns why, an *Ended. It returns when all goroutines of the session
// are gone.
func (s *Session) Run(h Handler) error {
	unlink := context.AfterFunc(s.ctx, func() { s.end(&Ended{Reason: ReasonShutdown}) })
	defer unlink()
	s.conn.OnPong(func(payload string) { s.pong(h, payload) })
	s.startPings()
	for {
		data, err := s.conn.Read(time.Now().Add(s.cfg.Silence))
		if err != nil {
			s.end(&Ended{Reason: readReason(err), Err: err})
			break
		}
		m, err := message.Decode(data)
		if err != nil {
			s.end(&Ended{Reason: ReasonMalformed, Err: err})
			break
		}
		m.Node = s.node
		h.Receive(s.ctx, m)
	}
	s.writers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

func readReason(err error) Reason {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return ReasonSilent
	}
	return ReasonPeer
}

// Close ends the session.
func (s *Session) Close(reason Reason) { s.end(&Ended{Reason: reason}) }

// end ends the session once; the first cause stays.
func (s *Session) end(cause *Ended) {
	s.mu.Lock()
	if s.cause != nil {
		s.mu.Unlock()
		return
	}
	s.cause = cause
	s.outbox, s.bytes = nil, 0
	if s.pinger != nil {
		s.pinger.Stop()
	}
	s.mu.Unlock()
	s.cancel(cause)
	s.conn.Close()
}

// ErrEnded says that a message came too late for its session.
var ErrEnded = errors.New("session has ended")

// Send puts m into the outbox. It never blocks: a full outbox ends the session.
func (s *Session) Send(m *message.Message) error {
	return s.put(item{frame: m.Frame()})
}

// Push is Send for those who need no answer, because the end of the session tells them enough.
func (s *Session) Push(m *message.Message) { _ = s.Send(m) }

func (s *Session) put(i item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.putLocked(i)
}

func (s *Session) putLocked(i item) error {
	if s.cause != nil {
		return ErrEnded
	}
	if len(s.outbox) >= s.cfg.OutboxMessages || s.bytes+i.frame.Len() > s.cfg.OutboxBytes {
		full := &Ended{Reason: ReasonSlow, Err: fmt.Errorf("%d messages of %d bytes wait", len(s.outbox), s.bytes)}
		s.writers.Go(func() { s.end(full) }) // the caller may hold locks
		return ErrEnded
	}
	s.outbox = append(s.outbox, i)
	s.bytes += i.frame.Len()
	if !s.writing {
		s.writing = true
		s.writers.Go(s.write)
	}
	return nil
}

// write empties the outbox, then ends.
func (s *Session) write() {
	for {
		s.mu.Lock()
		batch := s.outbox
		s.outbox, s.bytes = nil, 0
		if len(batch) == 0 {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for _, i := range batch {
			if err := s.writeItem(i); err != nil {
				s.end(&Ended{Reason: ReasonWrite, Err: err})
				return
			}
		}
	}
}

func (s *Session) writeItem(i item) error {
	if i.ping == 0 {
		return s.conn.Write(i.frame)
	}
	return s.conn.Ping(strconv.FormatUint(i.ping, 10))
}

func (s *Session) startPings() {
	if s.cfg.PingPeriod <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		// The first ping comes at a random moment of the period, so that nodes which connect together spread.
		s.pinger = time.AfterFunc(rand.N(s.cfg.PingPeriod), s.ping)
	}
}

func (s *Session) ping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil {
		return
	}
	s.pings++
	s.pinged, s.soon = time.Now(), false
	if s.putLocked(item{ping: s.pings}) == nil {
		s.pinger.Reset(s.cfg.PingPeriod)
	}
}

// PingSoon brings the next ping forward, for a sender who waits for Handler.Read. Calls within the same pause share
// one ping.
func (s *Session) PingSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil || s.pinger == nil || s.soon {
		return
	}
	s.soon = true
	s.pinger.Reset(min(pingPause, s.cfg.PingPeriod))
}

// pong takes the answer to the last ping; others are too old to tell anything new, or not ours.
func (s *Session) pong(h Handler, payload string) {
	s.mu.Lock()
	last, pinged := strconv.FormatUint(s.pings, 10), s.pinged
	s.mu.Unlock()
	if payload == last && !pinged.IsZero() {
		h.Read(pinged)
	}
}
