package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/loopback"
	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/supervise"
)

// Names of the components.
const (
	Etcd              = "etcd"
	APIServer         = "apiserver"
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
)

// RunComponent is the first argument with which Config.Executable is started as a component. The name of the
// component and its flags follow.
const RunComponent = "internal-run"

// Config is what a Cluster is made from.
type Config struct {
	// Dir is the folder of the cluster. It is created when missing.
	Dir string
	// Port is the secure port of the apiserver. 0 takes the port of the last run in Dir if that is free, else any.
	Port int
	// AuditLog is a file that every API call is recorded in, at metadata level. Empty: none.
	AuditLog string
	// Fsync makes etcd wait for the disk at every write, which a database needs that must survive a power cut.
	Fsync bool
	// WithoutControllers leaves out controller manager and scheduler.
	WithoutControllers bool
	// ExtraArgs are flags appended to those of a component, by its name.
	ExtraArgs map[string][]string
	// Executable is started for each component, see RunComponent.
	Executable string
	// StartTimeout bounds the start of the whole cluster, and each start of a component afterwards.
	StartTimeout time.Duration
	// Progress receives a line for each stage of the start and for each event afterwards.
	Progress io.Writer
}

// Cluster is one control plane.
type Cluster struct {
	cfg Config
	dir folder

	mu sync.Mutex // guards writing to cfg.Progress
}

// New checks cfg and returns a cluster that does nothing before Run.
func New(cfg Config) (*Cluster, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no folder is given (--dir)")
	}
	if cfg.Port < 0 || cfg.Port > 65535 {
		return nil, fmt.Errorf("port %d is not between 0 and 65535", cfg.Port)
	}
	if cfg.StartTimeout <= 0 {
		return nil, fmt.Errorf("start timeout %s is not positive", cfg.StartTimeout)
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("resolve folder %s: %w", cfg.Dir, err)
	}
	if cfg.AuditLog != "" {
		if cfg.AuditLog, err = filepath.Abs(cfg.AuditLog); err != nil {
			return nil, fmt.Errorf("resolve audit log %s: %w", cfg.AuditLog, err)
		}
	}
	return &Cluster{cfg: cfg, dir: folder(dir)}, nil
}

// Run starts the cluster and keeps it running until ctx ends, then stops it. It returns nil after a stop that was
// asked for, also during the start.
func (c *Cluster) Run(ctx context.Context) error {
	err := c.run(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
		return nil
	}
	return err
}

func (c *Cluster) run(ctx context.Context) error {
	if err := c.dir.prepare(); err != nil {
		return err
	}
	unlock, err := c.dir.lock()
	if err != nil {
		return err
	}
	defer unlock()
	components, err := c.dir.lockComponents(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = components.Close() }()

	ports, err := c.reservePorts()
	if err != nil {
		return err
	}
	defer ports.release()

	c.report("pki: checking keys and certificates in %s", c.dir.pki())
	creds, err := openCredentials(c.dir, ports.urlOf(APIServer), time.Now())
	if err != nil {
		return err
	}
	if c.cfg.AuditLog != "" {
		if err := c.dir.writeAuditPolicy(); err != nil {
			return err
		}
	}
	if err := c.dir.rotateLogs(); err != nil {
		return err
	}

	group := newGroup()
	defer c.stop(ctx, group)
	if err := c.start(ctx, group, launch{ports: ports, creds: creds, lock: components}); err != nil {
		return err
	}
	return c.serveControl(ctx, group, func() { c.report("ready: %s", c.dir.adminConf()) })
}

// stages returns the components in the order of their start; those of one stage start together.
func (c *Cluster) stages() [][]string {
	stages := [][]string{{Etcd}, {APIServer}}
	if !c.cfg.WithoutControllers {
		stages = append(stages, []string{ControllerManager, Scheduler})
	}
	return stages
}

// launch is what the components of one run need.
type launch struct {
	ports *ports
	creds *credentials
	lock  *os.File // see folder.lockComponents
}

func (c *Cluster) start(ctx context.Context, group *group, l launch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.StartTimeout,
		fmt.Errorf("not ready within %s", c.cfg.StartTimeout))
	defer cancel()
	for _, names := range c.stages() {
		members := make([]member, 0, len(names))
		for _, name := range names {
			m := member{
				Process: supervise.New(c.spec(name, l)),
				url:     l.ports.urlOf(name),
				log:     c.dir.logOf(name),
			}
			members = append(members, m)
			c.report("%s: starting on %s", name, m.url)
		}
		if err := group.startStage(ctx, members, c.reportReady); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) spec(name string, l launch) supervise.Spec {
	args := append([]string{"localcluster", RunComponent, name}, c.flagsOf(name, l.ports)...)
	return supervise.Spec{
		Name:    name,
		Path:    c.cfg.Executable,
		Args:    append(args, c.cfg.ExtraArgs[name]...),
		Dir:     string(c.dir),
		Log:     c.dir.logOf(name),
		Inherit: l.lock,
		Ready:   readyCheck(name, l.ports, l.creds),
		Grace:   graceOf(name),
		Died: func(name string, err error, delay time.Duration) {
			c.report("%s: ended by itself (%v), starting again in %s", name, err, delay)
		},
	}
}

// graceOf returns how long a component may take to obey SIGTERM. The apiserver waits for open requests and etcd
// closes its database; the other two have nothing to save.
func graceOf(name string) time.Duration {
	switch name {
	case APIServer, Etcd:
		return 15 * time.Second
	default:
		return 5 * time.Second
	}
}

func (c *Cluster) stop(ctx context.Context, group *group) {
	if ctx.Err() != nil {
		c.report("stopping")
	}
	group.stop()
	if ctx.Err() != nil {
		c.report("stopped")
	}
}

func (c *Cluster) reportReady(name string, took time.Duration) {
	c.report("%s: ready after %.1fs", name, took.Seconds())
}

// report writes one line of progress. There is nothing to do about a reader that has gone.
func (c *Cluster) report(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.cfg.Progress, format+"\n", args...)
}

// ports holds the reserved port of each component.
type ports struct {
	of map[string]*loopback.Port
}

func (c *Cluster) reservePorts() (*ports, error) {
	p := &ports{of: map[string]*loopback.Port{}}
	for _, names := range c.stages() {
		for _, name := range names {
			port, err := c.reservePort(name)
			if err != nil {
				p.release()
				return nil, fmt.Errorf("port of %s: %w", name, err)
			}
			p.of[name] = port
		}
	}
	return p, nil
}

func (c *Cluster) reservePort(name string) (*loopback.Port, error) {
	if name != APIServer {
		return loopback.Pick()
	}
	if c.cfg.Port != 0 {
		return loopback.Reserve(c.cfg.Port)
	}
	last, err := c.dir.lastPort()
	if err != nil {
		return nil, err
	}
	if last == 0 {
		return loopback.Pick()
	}
	port, err := loopback.Reserve(last)
	if errors.Is(err, loopback.ErrPortInUse) {
		c.report("port %d of the last run is in use, taking another", last)
		return loopback.Pick()
	}
	return port, err
}

func (p *ports) urlOf(name string) string { return "https://" + p.of[name].Address() }

func (p *ports) release() {
	for _, port := range p.of {
		port.Release()
	}
}
