// Command edgesim runs simulated edge nodes against a cloudcore until it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudcore-io/cloudcore/tests/edgesim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are the command line.
type settings struct {
	kubeconfig  string
	statusEvery time.Duration
	diff        bool
	faults      []string
	timeScale   float64
	fleet       edgesim.FleetOptions
}

// run is the command; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "edgesim: %v\n", err)
		return 2
	}
	if err := simulate(ctx, s, stdout); err != nil {
		fmt.Fprintf(stderr, "edgesim: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{timeScale: 1}
	o := &s.fleet.Node
	f := pflag.NewFlagSet("edgesim", pflag.ContinueOnError)
	f.SetOutput(stderr)
	f.SortFlags = false
	f.Usage = func() {
		fmt.Fprintf(stderr, "Runs simulated KubeEdge edge nodes until interrupted.\n\nUsage:\n  edgesim --cloud HOST --kubeconfig FILE [flags]\n\nFlags:\n%s", f.FlagUsages())
	}
	f.StringVar(&o.Cloud, "cloud", "", "host name or address of cloudcore, as in its server certificate")
	f.IntVar(&s.fleet.Count, "nodes", 1, "how many nodes to run")
	f.StringVar(&s.fleet.Prefix, "prefix", "edgesim", "nodes are named PREFIX-0, PREFIX-1, ...")
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster, to read the bootstrap token (and for --diff)")
	f.StringVar(&o.Token, "token", "", "bootstrap token, instead of the one in the cluster")
	f.IntVar(&o.HubPort, "hub-port", 10000, "port of the WebSocket hub")
	f.IntVar(&o.HTTPSPort, "https-port", 10002, "port of the certificate server")
	f.StringVar(&o.Dir, "dir", "", "folder that keeps the certificates of the nodes between runs")
	f.IntVar(&s.fleet.Concurrency, "concurrency", 32, "how many nodes join at once")
	f.DurationVar(&s.statusEvery, "status-every", 5*time.Second, "how often to print what changed; 0 prints only the summary")
	f.BoolVar(&s.diff, "diff", false, "at the end, compare all stores with kube-apiserver; differences make the exit code 1")
	f.Float64Var(&s.timeScale, "time-scale", 1, "multiply all periods of the edges (heartbeat, lease, retries)")
	f.BoolVar(&o.LinkOnly, "link-only", false, "no kubelet: nodes only connect, store and acknowledge")
	f.BoolVar(&o.SkipTokens, "skip-tokens", false, "pods don't ask for service account tokens")
	f.BoolVar(&o.Events, "events", false, "report events of pods")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of jitter and faults")
	f.StringArrayVar(&s.faults, "fault", nil, "fault NAME=VALUE, repeatable: "+faultNames())
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.Cloud == "":
		return nil, errors.New("--cloud is needed")
	case o.Token == "" && s.kubeconfig == "" && o.Dir == "":
		return nil, errors.New("--kubeconfig or --token is needed to join")
	case s.diff && s.kubeconfig == "":
		return nil, errors.New("--diff needs --kubeconfig")
	case s.timeScale <= 0:
		return nil, fmt.Errorf("--time-scale %v is not positive", s.timeScale)
	}
	var err error
	if o.Faults, err = parseFaults(s.faults); err != nil {
		return nil, err
	}
	o.Timing = edgesim.DefaultTiming().Scale(s.timeScale)
	return s, nil
}

func newClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 200, 400 // a comparison reads every referenced object once
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

// simulate runs the fleet until ctx ends.
func simulate(ctx context.Context, s *settings, out io.Writer) error {
	var client kubernetes.Interface
	if s.kubeconfig != "" {
		var err error
		if client, err = newClient(s.kubeconfig); err != nil {
			return err
		}
	}
	if s.fleet.Node.Token == "" && client != nil {
		token, err := edgesim.TokenFromCluster(ctx, client)
		if err != nil {
			return err
		}
		s.fleet.Node.Token = token
	}
	fleet, err := edgesim.NewFleet(s.fleet)
	if err != nil {
		return err
	}
	started := time.Now()
	reports, stopReports := context.WithCancel(ctx)
	reported := make(chan struct{})
	go func() {
		defer close(reported)
		report(reports, fleet, s.statusEvery, started, out)
	}()
	// The fleet outlives the interrupt for as long as the comparison takes.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- fleet.Run(life) }()

	select {
	case err = <-ended: // nobody interrupted: a node could not join
		stopReports()
		<-reported
		return err
	case <-ctx.Done():
	}
	stopReports()
	<-reported
	status := fleet.Status()
	if s.diff {
		err = compareStores(context.WithoutCancel(ctx), fleet, client, out)
	}
	end()
	err = errors.Join(err, <-ended)
	summarize(out, status, fleet, time.Since(started))
	return err
}

// report prints the state of the fleet whenever it is time and something changed.
func report(ctx context.Context, fleet *edgesim.Fleet, every time.Duration, started time.Time, out io.Writer) {
	if every <= 0 {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last edgesim.Status
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if now := fleet.Status(); now != last {
			last = now
			fmt.Fprintf(out, "%7.1fs  joined %d/%d  connected %d  registered %d  ready %d  pods running %d/%d\n",
				time.Since(started).Seconds(), now.Joined, now.Nodes, now.Connected, now.Registered, now.Ready, now.RunningPods, now.Pods)
		}
	}
}

// compareLimit bounds the comparison at the end.
const compareLimit = 2 * time.Minute

// errDiffers makes the exit code 1.
var errDiffers = errors.New("stores differ from kube-apiserver")

func compareStores(ctx context.Context, fleet *edgesim.Fleet, client kubernetes.Interface, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, compareLimit)
	defer cancel()
	diffs, err := fleet.Diff(ctx, client)
	if err != nil {
		return err
	}
	for _, d := range diffs {
		fmt.Fprintf(out, "difference: %s\n", d)
	}
	if len(diffs) > 0 {
		return fmt.Errorf("%w: %d differences", errDiffers, len(diffs))
	}
	fmt.Fprintln(out, "stores equal kube-apiserver")
	return nil
}

func summarize(out io.Writer, status edgesim.Status, fleet *edgesim.Fleet, took time.Duration) {
	c := fleet.Counters()
	fmt.Fprintf(out, "\n%d nodes for %s: %d connected, %d ready, %d of %d pods running at the end\n",
		status.Nodes, took.Round(time.Second), status.Connected, status.Ready, status.RunningPods, status.Pods)
	fmt.Fprintf(out, "  sessions %d (dials %d, failed %d)  received %d messages (%d bytes)  sent %d\n",
		c.Sessions, c.Dials, c.DialFailures, c.Received, c.BytesReceived, c.Sent)
	fmt.Fprintf(out, "  pushes %d: resends %d, duplicates %d, echoes %d, overlaps %d  acks %d, refusals %d, most unacked %d\n",
		c.Pushes, c.Resends, c.Duplicates, c.Echoes, c.Overlaps, c.Acks, c.Refusals, c.MaxUnacked)
	fmt.Fprintf(out, "  requests %d: answers %d, timeouts %d, late %d  leases %d (errors %d)  dropped by full queues %d\n",
		c.Requests, c.Answers, c.Timeouts, c.LateAnswers, c.Leases, c.LeaseErrors, c.Overflows+c.InboxDrops+c.OutboxDrops)
	fmt.Fprintf(out, "  violations %d\n", c.Violations)
	const shown = 20
	for i, v := range fleet.Violations() {
		if i == shown {
			fmt.Fprintln(out, "    ...")
			break
		}
		fmt.Fprintf(out, "    %s\n", v)
	}
}
