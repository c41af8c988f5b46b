package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// drain is the least time in which cloudcore writes down what it delivered, after the last pod runs.
const drain = 5 * time.Second

// settled waits until cloudcore has written down what it delivered. One that doesn't tell gets the least time, and one
// that is too slow a row in the table.
func (t *trial) settled(ctx context.Context) error {
	wait, cancel := t.waiting(ctx)
	defer cancel()
	var pending float64
	err := t.core.await(wait, "the records of cloudcore", func(ctx context.Context) error {
		if err := pause(ctx, drain); err != nil {
			return err
		}
		m, err := t.core.metrics(ctx)
		if err != nil {
			return err
		}
		if pending = m["cloudcore_records_pending"]; pending > 0 {
			return fmt.Errorf("%.0f records are not written", pending)
		}
		return nil
	})
	if wait.Err() != nil && ctx.Err() == nil && pending > 0 {
		t.result.info("records that wait to be written", pending, "", fmt.Sprintf("after %s", t.patience))
		return nil
	}
	return err
}

// pods creates pods on all nodes and measures when they come, and what that costs.
func (t *trial) pods(ctx context.Context) error {
	mark, err := markAudit(t.cluster.audit)
	if err != nil {
		return err
	}
	watched, err := startFloor(ctx, t.cluster.client)
	if err != nil {
		return err
	}
	used, err := t.usage()
	if err != nil {
		return errors.Join(err, watched.stop())
	}
	before := t.fleet.Counters()
	metricsBefore, err := t.core.metrics(ctx)
	if err != nil {
		return errors.Join(err, watched.stop())
	}
	var profiling errgroup.Group
	profiling.Go(func() error {
		return t.core.profile(ctx, t.profiles, t.scenario.String()+"-pods-cpu", "profile?seconds=10")
	})
	start := time.Now()
	begun, createErr := createPods(ctx, t.cluster.client, t.creators, t.Pods, "pod", t.names, false)
	created := time.Since(start)
	runErr := t.waitRunning(ctx, t.Pods)
	running := time.Since(start)
	floorErr := watched.stop()
	if err := errors.Join(createErr, runErr, floorErr, profiling.Wait()); err != nil {
		return err
	}
	if err := t.settled(ctx); err != nil {
		return err
	}
	counters := t.fleet.Counters()
	now, err := t.usage()
	if err != nil {
		return err
	}
	wall := time.Since(start)
	metricsNow, err := t.core.metrics(ctx)
	if err != nil {
		return err
	}
	if t.result.Calls, err = callsSince(t.cluster.audit, mark, t.core.agent); err != nil {
		return err
	}
	if err := t.core.profile(ctx, t.profiles, t.scenario.String()+"-pods-heap", "heap"); err != nil {
		return err
	}
	t.latencies(begun, watched)
	t.recordLatency(metricsBefore, metricsNow)
	t.result.info("creation of all pods", created.Seconds(), "s", fmt.Sprintf("%d at a time, %.0f pods/s", t.creators, float64(t.Pods)/created.Seconds()))
	t.result.info("all pods Running in kube-apiserver", running.Seconds(), "s",
		fmt.Sprintf("after the first creation began; all records written after %s s", number(wall.Seconds())))
	share := func(d time.Duration) float64 { return d.Seconds() / wall.Seconds() }
	t.result.info("CPU of cloudcore meanwhile", share(now.core-used.core), "cores", fmt.Sprintf("%.2f ms for each pod, leases included", ms(now.core-used.core)/float64(t.Pods)))
	t.result.info("CPU of kube-apiserver and etcd meanwhile", share(now.apiserver+now.etcd-used.apiserver-used.etcd), "cores",
		fmt.Sprintf("apiserver %.2f, etcd %.2f", share(now.apiserver-used.apiserver), share(now.etcd-used.etcd)))
	t.counts(before, counters)
	t.say("pods delivered")
	return t.compare(ctx, "differences of stores after the pods")
}

// waitRunning waits until each node runs its share of the pods.
func (t *trial) waitRunning(ctx context.Context, pods int) error {
	wait, cancel := t.waiting(ctx)
	defer cancel()
	for i, n := range t.fleet.Nodes() {
		share := (pods - i + t.Nodes - 1) / t.Nodes
		if err := n.Wait(wait, func(s edgesim.State) bool { return s.RunningPods() >= share }); err != nil {
			return fmt.Errorf("pods Running: %w: %+v", err, t.fleet.Status())
		}
	}
	return nil
}

// latencies compares, pod by pod, the edge with the floor.
func (t *trial) latencies(begun []time.Time, raw *floor) {
	var edge, watch, added []time.Duration
	for i, at := range begun {
		name := podName("pod", i)
		came, ok := t.arrived.pod(name)
		saw, watched := raw.seen[name]
		if !ok || !watched {
			continue
		}
		edge = append(edge, came.Sub(at))
		watch = append(watch, saw.Sub(at))
		added = append(added, came.Sub(saw))
	}
	p50, p99 := 50.0, 500.0
	if t.Nodes > 500 {
		p50, p99 = 100, 1000
	}
	r := t.result
	r.count("pods that did not come to edge or watch", float64(len(begun)-len(added)), "", 0, "")
	r.info("creation begun → arrived at the edge, p50", ms(percentile(edge, .5)), "ms", fmt.Sprintf("p99 %s ms, max %s ms", number(ms(percentile(edge, .99))), number(ms(percentile(edge, 1)))))
	r.info("creation begun → seen by a raw watch, p50", ms(percentile(watch, .5)), "ms", fmt.Sprintf("p99 %s ms, max %s ms, ended %d times by kube-apiserver",
		number(ms(percentile(watch, .99))), number(ms(percentile(watch, 1))), raw.restarts))
	r.limit("pod created → edge, over the raw watch, p50", ms(percentile(added, .5)), "ms", p50, "pod by pod")
	r.limit("pod created → edge, over the raw watch, p99", ms(percentile(added, .99)), "ms", p99,
		fmt.Sprintf("max %s ms; difference of both p99 %s ms", number(ms(percentile(added, 1))), number(ms(percentile(edge, .99)-percentile(watch, .99)))))
}

// recordLatency shows how long kube-apiserver takes to create a record, which comes before the push.
func (t *trial) recordLatency(before, after metrics) {
	const name, method = "cloudcore_apiserver_request_duration_seconds", "{method=POST}"
	count := after[name+method] - before[name+method]
	if count == 0 {
		return // a cloudcore without this metric
	}
	mean := (after[name+"_sum"+method] - before[name+"_sum"+method]) / count
	t.result.info("  creation of a record in kube-apiserver, mean", 1000*mean, "ms", "part of the time above: the record comes before the push")
}

// counts judges the calls and pushes of the delivery.
func (t *trial) counts(before, after edgesim.Counters) {
	per := func(n int) float64 { return float64(n) / float64(t.Pods) }
	writes, reads := t.result.Calls.own()
	t.result.count("apiserver writes for each pod", per(writes), "", 2, "by cloudcore, without what edges ask for")
	// A reflector may list again in the time measured; one read for each hundred pods is none for each.
	t.result.count("apiserver reads for each pod", per(reads), "", 0.01, "")
	duplicates := after.Duplicates - before.Duplicates
	resends := after.Resends - before.Resends
	echoes := after.Echoes - before.Echoes
	thousand := float64(t.Pods) / 1000
	t.result.count("duplicate pushes for 1 000 pods", float64(duplicates+resends+echoes)/thousand, "", 10,
		fmt.Sprintf("%d pushed again, %d resent, %d after an answer with the same", duplicates, resends, echoes))
	t.result.info("pushes for each pod", float64(after.Pushes-before.Pushes)/float64(t.Pods), "",
		fmt.Sprintf("at most %d unacknowledged at a node, %d dropped by queues", after.MaxUnacked, after.Overflows+after.InboxDrops))
}

// compare waits until every store is equal to kube-apiserver, and counts what never becomes so.
func (t *trial) compare(ctx context.Context, what string) error {
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := t.fleet.WaitEqual(wait, t.cluster.client, time.Second)
	switch {
	case err == nil:
		t.result.count(what, 0, "", 0, "")
		return nil
	case !errors.Is(err, edgesim.ErrDiffers) || ctx.Err() != nil:
		return err
	}
	diffs, err := t.fleet.Diff(ctx, t.cluster.client)
	if err != nil {
		return err
	}
	note := ""
	if len(diffs) > 0 {
		note = diffs[0].String()
	}
	t.result.count(what, float64(len(diffs)), "", 0, note)
	return nil
}

// configMap changes a ConfigMap that a pod on every node refers to.
func (t *trial) configMap(ctx context.Context) error {
	if err := createConfig(ctx, t.cluster.client); err != nil {
		return err
	}
	if _, err := createPods(ctx, t.cluster.client, t.creators, t.Nodes, "config", t.names, true); err != nil {
		return err
	}
	if err := t.waitAllRunning(ctx); err != nil {
		return err
	}
	if err := t.settled(ctx); err != nil {
		return err
	}
	begun := time.Now()
	version, err := updateConfig(ctx, t.cluster.client, "1")
	if err != nil {
		return err
	}
	if err := t.waitConfig(ctx, version); err != nil && ctx.Err() != nil {
		return err
	}
	var took []time.Duration
	for _, at := range t.arrived.config(version) {
		took = append(took, at.Sub(begun))
	}
	t.result.count("nodes that a ConfigMap update did not reach", float64(t.Nodes-len(took)), "", 0, fmt.Sprintf("within %s", t.patience))
	t.result.info("ConfigMap update → first node", ms(percentile(took, 0)), "ms", fmt.Sprintf("p50 %s ms", number(ms(percentile(took, .5)))))
	t.result.limit("ConfigMap update → last node", ms(percentile(took, 1)), "ms", 1000, fmt.Sprintf("%d nodes, after the read and update began", t.Nodes))
	t.say("ConfigMap delivered")
	return nil
}

// waitAllRunning waits until each node runs its share of the pods and the one that refers to the ConfigMap.
func (t *trial) waitAllRunning(ctx context.Context) error { return t.waitRunning(ctx, t.Pods+t.Nodes) }

// waitConfig waits until all nodes have a version of the ConfigMap.
func (t *trial) waitConfig(ctx context.Context, version string) error {
	wait, cancel := t.waiting(ctx)
	defer cancel()
	return t.fleet.Wait(wait, func(s edgesim.State) bool {
		row, ok := s.Row(configPath)
		return ok && row.Version == version
	})
}

// reconnect cuts all connections at once, changes what all nodes need, and waits for both.
func (t *trial) reconnect(ctx context.Context) error {
	before := t.fleet.Counters()
	sessions := t.fleet.Sessions()
	wait, cancel := t.waiting(ctx)
	defer cancel()
	begun := time.Now()
	t.fleet.Reconnect()
	version, err := updateConfig(ctx, t.cluster.client, "2")
	if err != nil {
		return err
	}
	if err := t.fleet.WaitSessions(wait, sessions); err != nil {
		return fmt.Errorf("reconnect: %w: %+v", err, t.fleet.Status())
	}
	up := time.Since(begun)
	if err := t.waitConfig(ctx, version); err != nil && ctx.Err() != nil {
		return err
	}
	delivered := time.Since(begun)
	after := t.fleet.Counters()
	t.result.limit("all nodes reconnect at once: all sessions up", up.Seconds(), "s", 5, fmt.Sprintf("%d dials failed", after.DialFailures-before.DialFailures))
	t.result.info("  a ConfigMap changed meanwhile is everywhere", delivered.Seconds(), "s", fmt.Sprintf("%d pushes for each node", (after.Pushes-before.Pushes)/uint64(t.Nodes)))
	t.say("reconnect measured")
	return t.compare(ctx, "differences of stores after the reconnect")
}
