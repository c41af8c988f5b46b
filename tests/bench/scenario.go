package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

// trial is one scenario while it is measured.
type trial struct {
	*settings
	scenario
	progress io.Writer
	cluster  *cluster
	core     *cloudcore
	fleet    *edgesim.Fleet
	arrived  *arrivals
	result   *result
	idle     memory // before the first node
	names    []string
	begun    time.Time
}

// measure runs a scenario. The result has the rows that were measured before an error.
func measure(ctx context.Context, s *settings, sc scenario, progress io.Writer) (_ *result, err error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &trial{settings: s, scenario: sc, progress: progress, arrived: newArrivals(), begun: time.Now()}
	t.result = &result{Scenario: sc.String()}
	stop, err := t.start(ctx, dir)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{
		t.idleNodes, t.leases, t.pods, t.configMap, t.reconnect, t.footprint,
	} {
		if err := step(ctx); err != nil {
			return t.result, err
		}
	}
	return t.result, nil
}

// say tells how far the scenario is and under which load.
func (t *trial) say(format string, args ...any) {
	load, err := loadAverage()
	if err != nil {
		load = -1
	}
	text := fmt.Sprintf(format, args...)
	line := fmt.Sprintf("%4.0f s  load average %5.2f  %s", time.Since(t.begun).Seconds(), load, text)
	t.result.Setting = append(t.result.Setting, line)
	fmt.Fprintf(t.progress, "%s: %s\n", t.scenario, line)
}

// start brings up everything but the nodes. The returned function ends what was started.
func (t *trial) start(ctx context.Context, dir string) (stop func() error, err error) {
	stop = func() error {
		var errs []error
		if t.core != nil && t.core.child != nil {
			errs = append(errs, named("cloudcore", t.core.stop()))
		}
		if t.cluster != nil {
			errs = append(errs, named("control plane", t.cluster.stop()))
		}
		return errors.Join(errs...)
	}
	wait, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	if t.cluster, err = startCluster(wait, filepath.Join(t.bin, "localcluster"), dir); err != nil {
		return stop, err
	}
	if t.core, err = startCloudcore(wait, t.settings, dir, t.cluster, t.Nodes); err != nil {
		return stop, err
	}
	if err := pause(ctx, 5*time.Second); err != nil { // what the start itself needs is to be over
		return stop, err
	}
	if t.idle, err = t.core.memory(ctx); err != nil {
		return stop, err
	}
	t.say("control plane and cloudcore are ready")
	stopFleet, err := t.startFleet(ctx)
	if err != nil {
		return stop, err
	}
	stopRest := stop
	return func() error { return errors.Join(named("edges", stopFleet()), stopRest()) }, nil
}

func named(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (t *trial) startFleet(ctx context.Context) (stop func() error, err error) {
	token, err := edgesim.TokenFromCluster(ctx, t.cluster.client)
	if err != nil {
		return nil, err
	}
	t.fleet, err = edgesim.NewFleet(edgesim.FleetOptions{
		Count: t.Nodes, Prefix: "edge", Concurrency: t.concurrency,
		Node: edgesim.Options{
			Cloud: address, HubPort: t.core.hub, HTTPSPort: t.core.https, Token: token, NoRotate: true, Seed: 1,
			Timing: edgesim.Timing{DialRetry: 200 * time.Millisecond}, OnPush: t.arrived.push,
		},
	})
	if err != nil {
		return nil, err
	}
	for _, n := range t.fleet.Nodes() {
		t.names = append(t.names, n.Name())
	}
	run, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- t.fleet.Run(run) }()
	return func() error { cancel(); return <-ended }, nil
}

// waiting bounds a wait for the fleet.
func (t *trial) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.patience)
}

const kib = 1 << 10

// idleNodes connects the nodes and measures what they cost in memory.
func (t *trial) idleNodes(ctx context.Context) error {
	begun := time.Now()
	wait, cancel := t.waiting(ctx)
	defer cancel()
	if err := t.fleet.WaitReady(wait); err != nil {
		return fmt.Errorf("join: %w: %+v", err, t.fleet.Status())
	}
	t.result.info("all nodes joined, registered and Ready", time.Since(begun).Seconds(), "s", fmt.Sprintf("%d at a time", t.concurrency))
	t.say("all nodes are Ready")
	const profiled = 20 * time.Second
	begun = time.Now()
	if t.settle > profiled {
		if err := t.core.profile(ctx, t.profiles, t.scenario.String()+"-idle-cpu", "profile?seconds=20"); err != nil {
			return err
		}
	}
	if err := pause(ctx, t.settle-time.Since(begun)); err != nil {
		return err
	}
	now, err := t.core.memory(ctx)
	if err != nil {
		return err
	}
	if err := t.core.profile(ctx, t.profiles, t.scenario.String()+"-idle-heap", "heap"); err != nil {
		return err
	}
	per := func(bytes int64) float64 { return float64(bytes) / float64(t.Nodes) / kib }
	t.result.limit("RSS per idle node, beyond the idle process", per(now.RSS-t.idle.RSS), "KiB", 60,
		fmt.Sprintf("%d MiB, %d MiB without nodes", now.RSS>>20, t.idle.RSS>>20))
	if now.Heap > 0 {
		t.result.info("Go heap in use per idle node", per(now.Heap-t.idle.Heap), "KiB", fmt.Sprintf("%d MiB, %d MiB without nodes", now.Heap>>20, t.idle.Heap>>20))
	}
	return nil
}

// usage is the processor time used so far.
type usage struct{ core, apiserver, etcd time.Duration }

func (t *trial) usage() (usage, error) {
	core, err1 := cpuTime(t.core.pid)
	apiserver, err2 := t.cluster.cpu("apiserver")
	etcd, err3 := t.cluster.cpu("etcd")
	return usage{core, apiserver, etcd}, errors.Join(err1, err2, err3)
}

// leases measures what a renewal costs while nothing else happens.
func (t *trial) leases(ctx context.Context) error {
	t.say("idle nodes measured")
	before, err := t.usage()
	if err != nil {
		return err
	}
	renewals := t.fleet.Counters().Leases
	if err := pause(ctx, t.steady); err != nil {
		return err
	}
	after, err := t.usage()
	if err != nil {
		return err
	}
	renewals = t.fleet.Counters().Leases - renewals
	if renewals == 0 {
		return errors.New("no lease was renewed")
	}
	per := func(d time.Duration) float64 { return ms(d) / float64(renewals) }
	t.result.limit("CPU per lease renewal", per(after.core-before.core), "ms", 0.5, fmt.Sprintf("%d renewals in %s", renewals, t.steady))
	t.result.info("  kube-apiserver and etcd per renewal", per(after.apiserver+after.etcd-before.apiserver-before.etcd), "ms", "")
	t.say("lease renewals measured")
	return nil
}

// footprint shows what is left in memory after everything.
func (t *trial) footprint(ctx context.Context) error {
	if err := t.core.profile(ctx, t.profiles, t.scenario.String()+"-end-heap", "heap"); err != nil {
		return err
	}
	now, err := t.core.memory(ctx)
	if err != nil {
		return err
	}
	t.result.info("RSS at the end", float64(now.RSS>>20), "MiB", fmt.Sprintf("Go heap in use %d MiB", now.Heap>>20))
	t.result.count("violations seen by the edges", float64(t.fleet.Counters().Violations), "", 0, firstViolation(t.fleet))
	t.say("end")
	return nil
}

func firstViolation(f *edgesim.Fleet) string {
	if v := f.Violations(); len(v) > 0 {
		return v[0].String()
	}
	return ""
}
