// Command localcluster runs a Kubernetes control plane on loopback, in the foreground, out of one executable.
//
// The README next to this file shows its use. Called as kubectl (through a symbolic link, or with kubectl as the
// first argument) it is kubectl; with internal-run it is one of the components that the main program starts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/component-base/version"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/cluster"
)

// thisExecutable stays the running program when its file is replaced by a newer build.
const thisExecutable = "/proc/self/exe"

// oneWish is the time in which several signals count as one.
const oneWish = 250 * time.Millisecond

const usage = `Runs a Kubernetes control plane (etcd, kube-apiserver, kube-controller-manager, kube-scheduler) on loopback
until SIGINT or SIGTERM.

Usage:
  localcluster --dir DIR [flags]
  localcluster control --dir DIR                     shows the components
  localcluster control --dir DIR COMPONENT ACTION    start|stop|kill|restart|pause|resume a component
  localcluster kubectl ...                           is kubectl

Flags:
`

func main() {
	os.Exit(run(os.Args))
}

func run(args []string) int {
	if filepath.Base(args[0]) == "kubectl" {
		return runKubectl(args[1:])
	}
	if len(args) > 1 {
		switch args[1] {
		case "kubectl":
			return runKubectl(args[2:])
		case cluster.RunComponent:
			return runComponent(args[2:])
		case "control":
			return report(control(args[2:], os.Stdout))
		}
	}
	return report(serve(args[1:], os.Stdout))
}

func report(err error) int {
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(os.Stderr, "localcluster: %v\n", err)
	return 1
}

func runComponent(args []string) int {
	components := map[string]func([]string) int{
		cluster.Etcd:              runEtcd,
		cluster.APIServer:         runAPIServer,
		cluster.ControllerManager: runControllerManager,
		cluster.Scheduler:         runScheduler,
	}
	if len(args) == 0 || components[args[0]] == nil {
		return report(fmt.Errorf("%s needs the name of a component", cluster.RunComponent))
	}
	return components[args[0]](args[1:])
}

func serve(args []string, out io.Writer) error {
	cfg, err := parse(args, out)
	if err != nil {
		return err
	}
	c, err := cluster.New(cfg)
	if err != nil {
		return err
	}
	ctx, stop := signalContext()
	defer stop()
	fmt.Fprintf(out, "Kubernetes %s in %s\n", version.Get().GitVersion, cfg.Dir)
	return c.Run(ctx)
}

func parse(args []string, out io.Writer) (cluster.Config, error) {
	cfg := cluster.Config{Executable: thisExecutable, Progress: out, ExtraArgs: map[string][]string{}}
	flags := newFlagSet(out)
	flags.StringVar(&cfg.Dir, "dir", "", "folder for keys, data, logs and admin.conf (required)")
	flags.IntVar(&cfg.Port, "port", 0, "port of the apiserver; 0: the port of the last run, or a free one")
	flags.StringVar(&cfg.AuditLog, "audit-log", "", "file to record every API call in, at metadata level")
	flags.BoolVar(&cfg.Fsync, "fsync", false, "let etcd wait for the disk at every write")
	flags.BoolVar(&cfg.WithoutControllers, "without-controllers", false,
		"leave out controller manager and scheduler")
	flags.DurationVar(&cfg.StartTimeout, "start-timeout", 5*time.Minute, "time in which the cluster must be ready")
	extra := map[string]*[]string{}
	for _, name := range []string{cluster.APIServer, cluster.ControllerManager, cluster.Scheduler} {
		extra[name] = flags.StringArray(name+"-arg", nil, "flag to append to those of the "+name+"; repeatable")
	}
	if err := flags.Parse(args); err != nil {
		return cluster.Config{}, err
	}
	if flags.NArg() > 0 {
		return cluster.Config{}, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for name, values := range extra {
		cfg.ExtraArgs[name] = *values
	}
	return cfg, nil
}

func control(args []string, out io.Writer) error {
	flags := newFlagSet(out)
	dir := flags.String("dir", "", "folder of the cluster (required)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("no folder is given (--dir)")
	}
	ctx, stop := signalContext()
	defer stop()
	switch flags.NArg() {
	case 0:
		return cluster.ShowStatus(ctx, *dir, out)
	case 2:
		return cluster.Control(ctx, *dir, flags.Arg(0), flags.Arg(1), out)
	default:
		return errors.New("want a component and an action, or neither")
	}
}

func newFlagSet(out io.Writer) *pflag.FlagSet {
	flags := pflag.NewFlagSet("localcluster", pflag.ContinueOnError)
	flags.SetOutput(out)
	flags.Usage = func() { fmt.Fprint(out, usage, flags.FlagUsages()) }
	return flags
}

// signalContext returns a context that the first SIGINT or SIGTERM ends. The second ends the process at once; the
// kernel then kills the children.
func signalContext() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		select {
		case s := <-signals:
			cancel(fmt.Errorf("stopped by %s", s))
		case <-ctx.Done():
			return
		}
		// Programs like timeout(1) signal both the process and its group: that is one wish.
		for first := time.Now(); ; {
			<-signals
			if time.Since(first) > oneWish {
				os.Exit(1)
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}
