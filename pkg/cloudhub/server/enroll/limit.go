package enroll

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// origin is what counts as one address. IPv6 gives every host a whole /64, so that is what counts there.
func origin(addr string) netip.Prefix {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{} // all unknown peers share one place
	}
	ip = ip.Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// buckets holds a token bucket an origin. When the table is full, the origin seen longest ago is forgotten; its next
// request finds a full bucket.
type buckets struct {
	limit Limit
	max   int

	mu      sync.Mutex // guards the fields below
	entries map[netip.Prefix]*list.Element
	recent  *list.List // of *bucket, most recent first
}

type bucket struct {
	origin  netip.Prefix
	limiter *rate.Limiter
}

func newBuckets(limit Limit, maxOrigins int) *buckets {
	return &buckets{limit: limit, max: maxOrigins, entries: make(map[netip.Prefix]*list.Element), recent: list.New()}
}

// allow takes a token of the origin if there is one.
func (b *buckets) allow(from netip.Prefix, now time.Time) bool {
	if b.limit.PerSecond < 0 {
		return true
	}
	return b.limiter(from).AllowN(now, 1)
}

func (b *buckets) limiter(from netip.Prefix) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.entries[from]; ok {
		b.recent.MoveToFront(e)
		return e.Value.(*bucket).limiter
	}
	if len(b.entries) >= b.max {
		last := b.recent.Back()
		delete(b.entries, last.Value.(*bucket).origin)
		b.recent.Remove(last)
	}
	entry := &bucket{origin: from, limiter: rate.NewLimiter(rate.Limit(b.limit.PerSecond), b.limit.Burst)}
	b.entries[from] = b.recent.PushFront(entry)
	return entry.limiter
}
