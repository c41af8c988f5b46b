package integration

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
	"github.com/cloudcore-io/cloudcore/tests/integration/harness"
)

// setting reads a size of a test from the environment.
func setting(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := cmp.Or(os.Getenv(name), strconv.Itoa(fallback))
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is no size", name, text)
	}
	return n
}

// Cloudcore is killed at random moments while pods come and go. In the end every node holds exactly what it should, and
// no record is left of what is gone.
//
// CRASH_KILLS, CRASH_PODS and CRASH_SEED change the size and repeat a run, for example CRASH_KILLS=20 CRASH_PODS=500.
func TestCrashes(t *testing.T) {
	kills, pods := setting(t, "CRASH_KILLS", 5), setting(t, "CRASH_PODS", 60)
	seed := uint64(setting(t, "CRASH_SEED", int(rand.Uint32())))
	t.Logf("CRASH_SEED=%d", seed)
	random := rand.New(rand.NewPCG(seed, seed))

	cloud := env.Cloudcore(t, harness.Options{})
	records := env.Records(t)
	fleet := cloud.Fleet(t, 4)
	namespace := env.Namespace(t, "crash")
	limit := 2*time.Minute + time.Duration(kills*20+pods)*time.Second
	ctx := within(t, limit)
	createConfig(ctx, t, namespace)

	// Steps are creations and deletions, in random order but never a deletion before its creation; some pods stay.
	var steps []func()
	var alive []string
	for created := 0; created < pods || len(alive) > pods/5; {
		if created < pods && (len(alive) == 0 || random.IntN(3) > 0) {
			name, node := fmt.Sprintf("pod-%d", created), fleet.Nodes()[created%len(fleet.Nodes())].Name()
			pod := plainPod(namespace, name, node)
			if random.IntN(2) == 0 {
				pod = configuredPod(namespace, name, node)
			}
			steps = append(steps, func() { createPod(ctx, t, pod) })
			alive, created = append(alive, name), created+1
			continue
		}
		i := random.IntN(len(alive))
		name, grace := alive[i], int64(random.IntN(2))
		steps = append(steps, func() { deletePod(ctx, t, namespace, name, grace) })
		alive = append(alive[:i], alive[i+1:]...)
	}
	killAt := make(map[int]int)
	for range kills {
		killAt[random.IntN(len(steps))]++
	}

	// Kills happen beside the steps, so that they hit deliveries in all their stages.
	crash := make(chan struct{}, kills)
	crashed := make(chan error, 1)
	go func() { crashed <- crashAndRestart(ctx, cloud, fleet, crash) }()
	for i, step := range steps {
		for range killAt[i] {
			crash <- struct{}{}
		}
		step()
	}
	close(crash)
	must(t, <-crashed, "crash and restart")

	must(t, fleet.Wait(ctx, edgesim.State.Connected), "wait for connections after the last crash")
	must(t, fleet.WaitEqual(within(t, time.Minute), env.Client, compareEvery), fmt.Sprintf("stores with CRASH_SEED=%d", seed))
	err := records.Wait(within(t, time.Minute), func() error { return records.Match(fleet.Nodes()...) })
	must(t, err, fmt.Sprintf("records with CRASH_SEED=%d", seed))
	for _, name := range alive {
		if _, ok := holder(fleet, podRow(namespace, name)); !ok {
			t.Errorf("no node holds pod %s, which was never deleted", name)
		}
	}
}

// crashAndRestart kills cloudcore for every value of crash and starts it again.
func crashAndRestart(ctx context.Context, cloud *harness.Cloudcore, fleet *edgesim.Fleet, crash <-chan struct{}) error {
	for range crash {
		if err := cloud.Kill(ctx); err != nil {
			return err
		}
		sessions := fleet.Sessions()
		if err := cloud.Start(ctx); err != nil {
			return err
		}
		fleet.Reconnect()
		// Without sessions the next kill would hit an idle process.
		if err := fleet.WaitSessions(ctx, sessions); err != nil {
			return err
		}
	}
	return nil
}

// holder returns the node that has a row.
func holder(fleet *edgesim.Fleet, resource string) (string, bool) {
	for _, n := range fleet.Nodes() {
		if _, ok := n.Store()[resource]; ok {
			return n.Name(), true
		}
	}
	return "", false
}
