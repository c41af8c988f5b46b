package delivery_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"

	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/desired"
)

var (
	modelSeeds = flag.Int("model.seeds", 300, "number of random histories of TestModel")
	modelSeed  = flag.Uint64("model.seed", 0, "run only this history of TestModel")
)

// TestModel runs random histories of a small world (one node, two replicas of cloudcore, a kube-apiserver, links that
// break) and compares the database of the node with the desired set each time the world comes to rest. In between, after
// every step, it checks what a crash at that moment would leave behind: every object on the node has a durable record,
// and no record claims more than the node holds.
//
// More histories: go test ./pkg/cloudhub/delivery -run TestModel -model.seeds 20000 (or CLOUDCORE_MODEL_SEEDS=20000).
// One again: -model.seed N. A history is the same each time as far as the model decides; the engine adds its own jitter.
func TestModel(t *testing.T) {
	n := *modelSeeds
	if v, err := strconv.Atoi(os.Getenv("CLOUDCORE_MODEL_SEEDS")); err == nil {
		n = v
	}
	first := uint64(1)
	if *modelSeed != 0 {
		first, n = *modelSeed, 1
	}
	for seed := first; seed < first+uint64(n) && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) { newWorld(t, seed).run() })
	}
}

// chances are the odds of faults in one history, in thousandths of the steps or events that they concern.
type chances struct {
	dropAck, doubleAck, shuffleAck, refuse, swap, failIntend int // of each ack or message
	cut, takeover, crash, wipe, patch, sleep                 int // of each step
}

// world is one history.
type world struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	chances chances
	keys    []desired.Key

	cluster  *cluster
	replicas [2]*replica
	edge     *edge
	conn     *connection   // of the edge; nil while it has none
	stale    []*connection // broken, but the replica has not noticed
	patches  []*patch
	calm     bool // nothing new happens
	// Records that may claim too much since the node lost its database, until Resync is through.
	excused map[recordID]bool
	wiped   bool // the node has lost its database and has not registered again
	faults  int

	mu    sync.Mutex // guards the field below
	trace []entry
}

// lockedSource is a random source that the world shares with the goroutines of the engine.
type lockedSource struct {
	mu     sync.Mutex // guards source
	source rand.Source
}

func (l *lockedSource) Uint64() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.source.Uint64()
}

// traced is the length of the history so far.
func (w *world) traced() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.trace)
}

type entry struct {
	step   int
	where  string
	pushed pushed
	what   string
}

// replica is one cloudcore.
type replica struct {
	name    string
	engine  *delivery.Engine
	source  *source
	records *records
	stop    func()
	backlog int // events that the source has to see before time passes
}

// connection is the link and the session of the node with one replica.
type connection struct {
	*link
	replica *replica
	session *delivery.Session
	closed  bool // the session is closed
}

// patch is a change of its own pod's status by the node.
type patch struct {
	conn    *connection
	key     desired.Key
	uid     string
	hold    desired.Hold
	version uint64 // once kube-apiserver has taken it
}

const modelWindow = 4

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(&lockedSource{source: rand.NewPCG(seed, 42)}), cluster: newCluster(), excused: map[recordID]bool{},
		keys: []desired.Key{
			pod("a"), pod("b"), pod("c"), config("a"), config("b"), config("c"), secret("a"), secret("b"),
			{Kind: nodeKind, Name: "n"},
		},
	}
	w.edge = newEdge(3*modelWindow, w.noteEdge)
	w.chances = w.profile()
	for i := range w.replicas {
		w.start(i)
	}
	return w
}

// profile picks the faults of a history: some have none, some have a few kinds, some have all.
func (w *world) profile() chances {
	all := chances{
		dropAck: 60, doubleAck: 60, shuffleAck: 200, refuse: 60, swap: 250, failIntend: 60,
		cut: 8, takeover: 3, crash: 4, wipe: 2, patch: 40, sleep: 25,
	}
	if w.rng.IntN(4) == 0 {
		return all
	}
	c := chances{}
	for _, f := range []struct{ to, from *int }{
		{&c.dropAck, &all.dropAck}, {&c.doubleAck, &all.doubleAck}, {&c.shuffleAck, &all.shuffleAck}, {&c.refuse, &all.refuse},
		{&c.swap, &all.swap}, {&c.failIntend, &all.failIntend}, {&c.cut, &all.cut}, {&c.takeover, &all.takeover},
		{&c.crash, &all.crash}, {&c.wipe, &all.wipe}, {&c.patch, &all.patch}, {&c.sleep, &all.sleep},
	} {
		if w.rng.IntN(3) == 0 {
			*f.to = *f.from
		}
	}
	return c
}

// quiet says that nothing in this history makes a resend or a second push right. Objects that come and go with their pods
// don't in it: their records lose the version before a delete, so that they are sent again.
func (c chances) quiet() bool {
	return c.dropAck+c.refuse+c.failIntend+c.cut+c.takeover+c.crash+c.wipe+c.patch+c.sleep == 0
}

// odds is true in n of 1000 cases, never once the world is calm.
func (w *world) odds(n int) bool { return !w.calm && w.rng.IntN(1000) < n }

func (w *world) note(where string, p pushed, what any) {
	if what == nil {
		what = ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, entry{len(w.trace), where, p, fmt.Sprint(what)})
}

func (w *world) noteEdge(what string, p pushed, id any) { w.note("edge "+what, p, id) }

// fail ends the test with the history of one key, or of all if it is zero.
func (w *world) fail(key desired.Key, format string, args ...any) {
	w.t.Helper()
	var b strings.Builder
	for _, e := range w.trace[max(0, len(w.trace)-4000):] {
		if key.Kind == nil || e.pushed.key == key || e.pushed.key.Kind == nil {
			fmt.Fprintf(&b, "%6d %-20s %v %s %d deletes=%v %s\n", e.step, e.where, keyText(e.pushed.key), e.pushed.uid, e.pushed.version, e.pushed.deletes, e.what)
		}
	}
	lines := strings.Split(b.String(), "\n")
	w.t.Fatalf("seed %d: %s\nchances %+v\nlast events:\n%s", w.seed, fmt.Sprintf(format, args...), w.chances,
		strings.Join(lines[max(0, len(lines)-80):], "\n"))
}

func keyText(k desired.Key) string {
	if k.Kind == nil {
		return "-"
	}
	return k.String()
}

// start runs a replica that knows only what kube-apiserver has.
func (w *world) start(i int) {
	r := &replica{name: fmt.Sprintf("r%d", i), source: newSource(), records: newRecords(w.cluster)}
	for _, k := range w.keys {
		if v := w.cluster.view(k); v.state != desired.Absent {
			r.source.cache[k] = v
		}
	}
	rng := rand.New(rand.NewPCG(w.seed, uint64(len(w.trace)))) // used under the lock of the records
	r.records.merge = func() bool { return rng.IntN(2) == 0 }
	engine, err := delivery.New(delivery.Config{
		Window: modelWindow, AckTimeout: 10 * time.Second, ErrorBackoff: time.Second, MaxBackoff: time.Minute,
		AuditPeriod: 10000 * time.Hour, Workers: 1, // the audit would hide what it is a net for
	}, r.records, nil)
	if err == nil {
		err = engine.AddSource(r.source)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	r.engine = engine
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("seed %d: Run: %v", w.seed, err)
		}
	}
	w.replicas[i] = r
	w.cluster.sources, w.cluster.memory = nil, nil
	for _, r := range w.replicas {
		if r != nil {
			w.cluster.sources = append(w.cluster.sources, r.source)
			w.cluster.memory = append(w.cluster.memory, r.records)
		}
	}
}

func (w *world) run() {
	defer func() {
		for _, r := range w.replicas {
			r.stop()
		}
	}()
	for range 3 {
		w.calm = false
		for range 400 {
			w.step()
			w.settle()
			w.check()
		}
		w.rest()
		w.compare()
	}
	for _, r := range w.replicas { // leave no timer behind
		w.closeAll(r)
	}
}

func (w *world) settle() { synctest.Wait() }

// step lets one thing happen.
func (w *world) step() {
	c := &w.chances
	switch {
	case w.odds(c.cut):
		w.cut()
	case w.odds(c.takeover):
		w.connect(w.replicas[w.rng.IntN(2)])
	case w.odds(c.crash):
		w.crash(w.rng.IntN(2))
	case w.odds(c.wipe):
		w.wipe()
	case w.odds(c.sleep):
		w.sleep(time.Duration(1+w.rng.IntN(12000)) * time.Millisecond)
	case w.odds(c.patch):
		w.startPatch(w.keys[w.rng.IntN(len(w.keys))])
	default:
		w.move()
	}
}

// move lets the world go on without a fault.
func (w *world) move() {
	r := w.replicas[w.rng.IntN(2)]
	switch w.rng.IntN(12) {
	case 0, 1:
		if !w.calm {
			w.change(w.keys[w.rng.IntN(len(w.keys))])
		}
	case 2, 3:
		w.seeObject(r)
	case 4:
		w.seeRecord(r)
	case 5, 6:
		w.write(r)
	case 7, 8:
		w.transfer()
	case 9:
		w.process()
		w.process()
	case 10:
		w.answer()
		w.answer()
	case 11:
		w.housekeeping()
	}
}

// change changes one object in kube-apiserver, or whether the node should hold it.
func (w *world) change(key desired.Key) {
	c := w.cluster
	o := c.objects[key]
	what := w.rng.IntN(10)
	switch {
	case o == nil:
		c.put(key)
	case what < 4:
		c.put(key)
	case what < 5:
		c.touch(key)
	case what < 6 && key.Kind != nodeKind:
		c.remove(key)
	case what < 7 && key.Kind != nodeKind: // recreated under the same name
		c.remove(key)
		c.put(key)
	case what < 9 && !key.Kind.DeletesByUID && key.Kind != nodeKind && !w.chances.quiet(): // the last pod that refers to it went, or one came
		c.want(key, !o.wanted)
	case !key.Kind.DeletesByUID:
		c.pend(key, !o.pending)
	}
	p := pushed{key: key}
	if o := c.objects[key]; o != nil {
		p.uid, p.version = o.uid, o.version
		w.note("truth", p, fmt.Sprintf("wanted %v pending %v", o.wanted, o.pending))
		return
	}
	w.note("truth", p, "gone")
}

func (w *world) seeObject(r *replica) {
	if key, ok := r.source.see(); ok {
		w.note(r.name+" sees", pushed{key: key}, nil)
		r.engine.Changed("n", key)
		r.backlog--
	}
}

func (w *world) seeRecord(r *replica) {
	if rec, exists, ok := r.records.see(); ok && exists {
		w.note(r.name+" sees record", pushed{key: rec.Key, uid: rec.UID, version: desired.ParseVersion(rec.Version)}, nil)
		r.engine.RecordSeen("n", rec)
		r.backlog = r.source.behind()
	}
}

func (w *world) write(r *replica) {
	if waiting := r.records.waiting(); len(waiting) > 0 {
		i := w.rng.IntN(len(waiting))
		id := waiting[i]
		op := r.records.apply(i, w.odds(w.chances.failIntend))
		w.note(r.name+" wrote", pushed{key: id.key, uid: id.uid, version: op.version}, [...]string{"intent", "version", "removal"}[op.op])
	}
}

// transfer moves some of what is on the wire into the queue of the edge.
func (w *world) transfer() {
	if w.conn == nil {
		return
	}
	for range 1 + w.rng.IntN(4) {
		if i, ok := w.conn.take(); ok {
			w.edge.read(i)
		}
	}
}

func (w *world) process() {
	if w.conn != nil {
		w.edge.process(w.odds(w.chances.swap), w.odds(w.chances.refuse))
	}
}

// answer brings one ack or pong to the replica.
func (w *world) answer() {
	n := len(w.edge.answers)
	if w.conn == nil || n == 0 {
		return
	}
	i := 0
	if w.odds(w.chances.shuffleAck) {
		i = w.rng.IntN(n)
	}
	a := w.edge.answers[i]
	w.edge.answers = append(w.edge.answers[:i:i], w.edge.answers[i+1:]...)
	if !a.pong.IsZero() {
		w.conn.session.Confirm(a.pong)
		return
	}
	if w.odds(w.chances.dropAck) {
		w.faults++
		return
	}
	p := w.conn.answered(a.id, a.ok)
	known := w.conn.session.Ack(a.id, a.ok)
	w.note("ack", p, fmt.Sprintf("%s ok %v known %v", a.id[:4], a.ok, known))
	if w.odds(w.chances.doubleAck) {
		w.conn.session.Ack(a.id, a.ok)
	}
}

// housekeeping does what happens now and then: connect, ping, notice a broken connection, register, finish a patch.
func (w *world) housekeeping() {
	switch w.rng.IntN(4) {
	case 0:
		if w.conn == nil {
			w.connect(w.replicas[w.rng.IntN(2)])
		} else {
			w.conn.ping(time.Now())
		}
	case 1:
		if len(w.stale) > 0 {
			w.close(w.stale[0])
		}
	case 2:
		if w.wiped && w.conn != nil {
			w.register()
		}
	case 3:
		w.finishPatch()
		w.patchAgain()
	}
}

// patchAgain repeats a patch whose reply never came. Until that is through, the record may claim what was in the reply.
func (w *world) patchAgain() {
	for _, p := range w.edge.unanswered {
		w.excused[recordID{p.key, p.uid}] = true
		w.startPatch(p.key)
	}
	w.edge.unanswered = nil
}

// connect opens a connection; the edge drops the one it has. By then the writes of the other replica are done and seen:
// they take seconds, the edge waits for half a minute (spec 03 §3.1). What the new replica knows of the objects may be
// older.
func (w *world) connect(r *replica) {
	w.cut()
	for _, other := range w.replicas {
		for other != r && len(other.records.waiting()) > 0 {
			w.write(other)
			w.settle()
		}
	}
	for r.records.behind() > 0 {
		w.seeRecord(r)
	}
	c := &connection{link: newLink(func(what string, p pushed, id any) { w.note(r.name+" "+what, p, id) }), replica: r}
	w.note(r.name+" connect", pushed{}, nil)
	c.session = r.engine.Attach(klog.Background(), "n", c.link)
	w.conn = c
	r.backlog = r.source.behind()
}

// cut breaks the connection: what is under way in either direction is lost, but for some that the edge has read.
func (w *world) cut() {
	if w.conn == nil {
		return
	}
	for range w.rng.IntN(4) {
		if i, ok := w.conn.take(); ok {
			w.edge.read(i)
		}
	}
	w.edge.lose(w.rng.IntN(2 * modelWindow))
	w.note("cut", pushed{}, nil)
	w.stale = append(w.stale, w.conn)
	w.conn = nil
}

// close lets a replica notice that a connection is broken.
func (w *world) close(c *connection) {
	for i, s := range w.stale {
		if s == c {
			w.stale = append(w.stale[:i:i], w.stale[i+1:]...)
			break
		}
	}
	if !c.closed {
		c.closed = true
		c.session.Close()
		w.rules(c)
	}
}

func (w *world) closeAll(r *replica) {
	if w.conn != nil && w.conn.replica == r {
		w.cut()
	}
	for _, c := range append([]*connection(nil), w.stale...) {
		if c.replica == r {
			w.close(c)
		}
	}
}

// crash ends a replica at once; a new one starts from what is durable.
func (w *world) crash(i int) {
	r := w.replicas[i]
	if r.resyncing(w.excused) {
		return // what a node lost is known to this replica only; EdgeCore tells it once
	}
	w.note(r.name+" crash", pushed{}, nil)
	r.records.crash()
	if w.conn != nil && w.conn.replica == r {
		w.cut()
	}
	w.closeAll(r)
	for n := 0; n < len(w.patches); {
		if w.patches[n].conn.replica == r {
			w.patches = append(w.patches[:n], w.patches[n+1:]...)
			continue
		}
		n++
	}
	r.stop()
	w.start(i)
}

// resyncing says that writes wait which a resync has caused.
func (r *replica) resyncing(excused map[recordID]bool) bool {
	for _, id := range r.records.waiting() {
		if excused[id] {
			return true
		}
	}
	return false
}

// wipe loses the database of the node, which EdgeCore tells when it registers after its start.
func (w *world) wipe() {
	w.note("wipe", pushed{}, nil)
	w.cut()
	w.edge.store = map[desired.Key]stored{}
	for id := range w.cluster.records {
		w.excused[id] = true
	}
	for _, r := range w.replicas {
		for _, id := range r.records.waiting() {
			w.excused[id] = true
		}
	}
	w.wiped = true
}

func (w *world) register() {
	w.note("resync", pushed{}, nil)
	w.conn.replica.engine.Resync("n")
	w.wiped = false
}

// sleep lets time pass. What a replica did not know of an object when it learned of its record it knows after a while.
func (w *world) sleep(d time.Duration) {
	for _, r := range w.replicas {
		for r.backlog > 0 {
			w.seeObject(r)
		}
	}
	w.note("sleep", pushed{}, d)
	time.Sleep(d)
}

// startPatch lets the node change the status of an object that it holds. It waits for the reply before the next patch.
func (w *world) startPatch(key desired.Key) {
	row, ok := w.edge.store[key]
	if w.conn == nil || !ok || !key.Kind.Patched || w.patching(key) {
		return
	}
	w.note("patch", pushed{key: key, uid: row.uid}, nil)
	w.patches = append(w.patches, &patch{conn: w.conn, key: key, uid: row.uid, hold: w.conn.replica.engine.Hold("n", key)})
}

// patching says that the node waits for the reply to a patch of key.
func (w *world) patching(key desired.Key) bool {
	for _, p := range w.patches {
		if p.key == key && p.conn == w.conn {
			return true
		}
	}
	return w.conn.replying(key) || slices.ContainsFunc(w.edge.fifo, func(i item) bool { return i.reply() && i.pushed.key == key })
}

// finishPatch lets kube-apiserver take the oldest patch, or hands its reply to the session.
func (w *world) finishPatch() {
	if len(w.patches) == 0 {
		return
	}
	p := w.patches[0]
	if o := w.cluster.objects[p.key]; p.version == 0 && o != nil && o.uid == p.uid {
		w.cluster.touch(p.key)
		p.version = o.version
		w.note("truth patched", pushed{key: p.key, uid: p.uid, version: p.version}, nil)
		return
	}
	w.patches = w.patches[1:]
	if p.version == 0 || p.conn.closed { // not found, or nobody to reply to
		p.hold.Release("", "")
		return
	}
	p.conn.reply(pushed{key: p.key, uid: p.uid, version: p.version})
	p.hold.Release(p.uid, text(p.version))
}

// check verifies what must be true at any moment: a crash now would lose nothing and leave nothing behind.
func (w *world) check() {
	w.t.Helper()
	for _, p := range w.edge.unanswered {
		w.excused[recordID{p.key, p.uid}] = true
	}
	if w.conn != nil {
		w.rules(w.conn)
	}
	for _, b := range w.edge.broken {
		w.fail(b.key, "%s", b.text)
	}
	for key, row := range w.edge.store {
		if _, ok := w.cluster.records[recordID{key, row.uid}]; !ok && key.Kind != nodeKind {
			w.fail(key, "the node holds %s %s without a record", key, row.uid)
		}
	}
	for id, d := range w.cluster.records {
		o := w.cluster.objects[id.key]
		if o == nil || o.uid != id.uid || o.version != d.version || w.excused[id] {
			continue // what is not the newest version will be looked at again
		}
		if row := w.edge.store[id.key]; row.uid != id.uid || row.version < d.version {
			w.fail(id.key, "the record of %s %s says %d, the node holds %+v", id.key, id.uid, d.version, row)
		}
	}
}

// rules fails if a link was used against the rules.
func (w *world) rules(c *connection) {
	w.t.Helper()
	for _, b := range c.broken() {
		w.fail(b.key, "%s", b.text)
	}
}

// rest ends all faults and lets everything come to an end.
func (w *world) rest() {
	w.calm = true
	w.note("rest", pushed{}, nil)
	for _, k := range w.keys {
		if o := w.cluster.objects[k]; o != nil && o.pending {
			w.cluster.pend(k, false)
		}
	}
	for idle := 0; idle < 4; idle++ {
		before := w.traced()
		w.drain()
		if w.traced() != before {
			idle = 0
		}
		time.Sleep(time.Minute) // backoffs and ack timeouts pass
		w.settle()
		if w.traced() > before+20000 {
			w.fail(desired.Key{}, "the world never comes to rest")
		}
	}
}

// drain does all that can be done at this moment.
func (w *world) drain() {
	for len(w.stale) > 0 {
		w.close(w.stale[0])
	}
	if w.conn == nil {
		w.connect(w.replicas[w.rng.IntN(2)])
	}
	if w.wiped {
		w.register()
	}
	for before := -1; before != w.traced(); {
		before = w.traced()
		w.patchAgain()
		for len(w.patches) > 0 {
			w.finishPatch()
		}
		for _, r := range w.replicas {
			for r.source.behind() > 0 {
				w.seeObject(r)
			}
			for r.records.behind() > 0 {
				w.seeRecord(r)
			}
			w.settle()
			for len(r.records.waiting()) > 0 {
				w.write(r)
				w.settle()
			}
		}
		w.conn.ping(time.Now())
		for i, ok := w.conn.take(); ok; i, ok = w.conn.take() {
			w.edge.read(i)
			for len(w.edge.fifo) > 0 {
				w.process()
			}
		}
		for len(w.edge.answers) > 0 {
			w.answer()
			w.settle()
		}
		w.check()
	}
}

// compare checks the world at rest.
func (w *world) compare() {
	w.t.Helper()
	clear(w.excused)
	w.check()
	for _, k := range w.keys {
		row, held := w.edge.store[k]
		v := w.cluster.view(k)
		switch {
		case v.state == desired.Present && (!held || row.uid != v.object.uid || row.version != v.object.version):
			w.fail(k, "the node holds %+v (%v), want %s %d", row, held, v.object.uid, v.object.version)
		case v.state == desired.Absent && held:
			w.fail(k, "the node holds %+v, want nothing", row)
		}
	}
	for id, d := range w.cluster.records {
		row, held := w.edge.store[id.key]
		if !held || row.uid != id.uid {
			w.fail(id.key, "a record of %s %s is left over, the node holds %+v", id.key, id.uid, row)
		}
		if d.version > row.version {
			w.fail(id.key, "the record of %s says %d, the node holds %d", id.key, d.version, row.version)
		}
	}
	if w.chances.quiet() {
		for _, p := range w.conn.dups {
			w.fail(p.key, "%s %d was pushed again after its ack, without any fault", p.uid, p.version)
		}
	}
}
