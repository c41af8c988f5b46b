package edgesim

import (
	"strconv"
	"testing"

	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// BenchmarkPush is the cost of one ConfigMap push from frame to acknowledgement, without the connection.
// go -C tests test ./edgesim -run '^$' -bench Push
func BenchmarkPush(b *testing.B) {
	n, err := New(Options{Name: "edge-1", Cloud: fakeHost, LinkOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	n.core.life = b.Context()
	n.core.boot()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		m, err := message.Decode(configMap("a", strconv.Itoa(i)).Frame().Bytes())
		if err != nil {
			b.Fatal(err)
		}
		n.received(m, 300)
		n.core.drain()
		o, ok := n.out.pop()
		if !ok {
			b.Fatal("no acknowledgement")
		}
		n.rec.outcome(o.acks, Acked)
	}
}
