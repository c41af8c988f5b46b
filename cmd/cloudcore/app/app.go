// Package app is the composition root of cloudcore: it alone knows every concrete type, and makes a running process of
// them. It holds no behaviour of the product.
package app

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/component-base/version"
	"k8s.io/klog/v2"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudcore-io/cloudcore/cmd/cloudcore/app/options"
	"github.com/cloudcore-io/cloudcore/pkg/apis/componentconfig/v1alpha1"
	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/delivery"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/hub"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/pki"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/records"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/server/csisocket"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/server/enroll"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/server/websocket"
	"github.com/cloudcore-io/cloudcore/pkg/cloudhub/session"
	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/downstream"
	"github.com/cloudcore-io/cloudcore/pkg/edgecontroller/upstream"
	"github.com/cloudcore-io/cloudcore/pkg/kube"
	"github.com/cloudcore-io/cloudcore/pkg/message"
	"github.com/cloudcore-io/cloudcore/pkg/monitor"
	"github.com/cloudcore-io/cloudcore/pkg/synccontroller"
	"github.com/cloudcore-io/cloudcore/pkg/tunnelport"
)

// namespace holds everything of KubeEdge (spec 01 §8).
const namespace = pki.DefaultNamespace

// Main runs the command line and returns the exit code of the process.
func Main(ctx context.Context, args []string) int {
	cmd := options.NewCommand(options.Deps{
		Run:           Run,
		DetectAddress: func() (net.IP, error) { return tunnelport.LocalIP(ctx) },
		Version:       version.Get(),
	})
	cmd.SetArgs(args)
	return options.Execute(ctx, cmd)
}

// Run runs cloudcore until ctx ends.
func Run(ctx context.Context, start *options.Startup) error {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sup, err := newSupervisor(reg)
	if err != nil {
		return err
	}
	stages, err := compose(ctx, start, reg, sup)
	if err != nil {
		return err
	}
	stopping := context.AfterFunc(ctx, func() { tellSystemd(ctx, systemdStopping) })
	defer stopping()
	return sup.run(ctx, stages, func() { tellSystemd(ctx, systemdReady) })
}

// tellSystemd reports a state if this process is a service that is waited for.
func tellSystemd(ctx context.Context, state string) {
	if err := notifySystemd(os.Getenv("NOTIFY_SOCKET"), state); err != nil {
		klog.FromContext(ctx).Error(err, "Telling systemd failed", "state", state)
	}
}

// process is what the modules of one cloudcore share.
type process struct {
	cfg     *v1alpha1.CloudCoreConfig
	reg     *prometheus.Registry
	clients *kube.Clients
	address string // of this replica
	bus     *bus.Bus

	core     informers.SharedInformerFactory // Nodes, started first
	pods     informers.SharedInformerFactory
	metadata metadatainformer.SharedInformerFactory
}

// compose builds what the configuration enables, in the order in which it starts.
func compose(ctx context.Context, start *options.Startup, reg *prometheus.Registry, sup *supervisor) ([][]Module, error) {
	cfg := start.Config
	clients, err := kube.New(kube.Config{
		Master: cfg.KubeAPIConfig.Master, Kubeconfig: cfg.KubeAPIConfig.KubeConfig,
		QPS: int(cfg.KubeAPIConfig.QPS), Burst: int(cfg.KubeAPIConfig.Burst),
		Impersonate: cfg.Modules.CloudHub.Authorization.Enforced(),
		ContentType: cfg.KubeAPIConfig.ContentType,
		UserAgent:   "cloudcore/" + version.Get().GitVersion,
	}, reg)
	if err != nil {
		return nil, err
	}
	address, err := tunnelport.LocalIP(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the address of this host: %w", err)
	}
	p := &process{
		cfg: cfg, reg: reg, clients: clients, address: address.String(), bus: bus.New(),
		core: informers.NewSharedInformerFactory(clients.Typed, 0),
		pods: informers.NewSharedInformerFactoryWithOptions(clients.Typed, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = "spec.nodeName!=" // pods that are not bound to a node concern nobody here
		})),
		metadata: metadatainformer.NewSharedInformerFactory(clients.Metadata, 0),
	}
	p.warnMissing(klog.FromContext(ctx))
	if cfg.Modules.CloudStream.Enable {
		if err := kube.EnsureNamespace(ctx, clients.Typed, namespace); err != nil {
			return nil, err
		}
		port, err := tunnelport.Negotiate(ctx, clients.Typed, namespace, address)
		if err != nil {
			return nil, fmt.Errorf("negotiate the tunnel port: %w", err)
		}
		cfg.CommonConfig.TunnelPort = int32(port)
	}
	server := monitor.New(monitor.Config{
		Address: cfg.CommonConfig.MonitorServer.BindAddress, Profiling: cfg.CommonConfig.MonitorServer.EnableProfiling,
	}, reg, sup.checks)
	stages := [][]Module{{
		part{name: "monitor", run: server.Run},
		part{name: "configuration", run: func(ctx context.Context) error { start.WatchFile(ctx); return nil }},
		permissionCheck(clients.Typed, permissions(cfg, start.FeatureGates)),
	}}
	if !cfg.Modules.CloudHub.Enable {
		klog.FromContext(ctx).Info("Module is disabled: no edge node can connect", "key", "modules.cloudHub.enable")
		return stages, nil
	}
	more, err := p.hubStages(ctx)
	return append(stages, more...), err
}

// hubStages builds the hub with the modules that meet nodes through it.
func (p *process) hubStages(ctx context.Context) ([][]Module, error) {
	store, err := records.New(records.Config{}, p.clients.CRD, p.reg)
	if err != nil {
		return nil, err
	}
	engine, err := delivery.New(delivery.Config{}, store, p.reg)
	if err != nil {
		return nil, err
	}
	store.OnSeen(engine.RecordSeen)
	nodes := p.core.Core().V1().Nodes().Informer()

	var edge []Module
	if p.cfg.Modules.EdgeController.Enable {
		if edge, err = p.edgeController(engine, store); err != nil {
			return nil, err
		}
	}
	annotator := hub.NewAnnotator(p.clients.Typed, nodes.GetStore(), p.address)
	h, err := hub.New(hub.Config{
		NodeLimit: int(p.cfg.Modules.CloudHub.NodeLimit), Silence: p.cfg.Modules.CloudHub.Keepalive(), CA: p.clients.CA,
	}, p.bus, engine, annotator.Connected, p.reg)
	if err != nil {
		return nil, err
	}
	authority, err := p.authority(ctx)
	if err != nil {
		return nil, err
	}
	listeners, err := p.listeners(authority, h, nodes.GetStore())
	if err != nil {
		return nil, err
	}
	upkeep := []Module{part{name: "annotator", run: annotator.Run}, part{name: "pki", run: authority.Run}}
	if p.cfg.Modules.SyncController.Enable {
		upkeep = append(upkeep, synccontroller.New(store, nodes, p.clients.Typed, func(node string) {
			h.Disconnect(node, session.ReasonNodeDeleted)
		}))
	}
	return [][]Module{
		{part{name: "informers", run: p.informers}, part{name: "records", run: store.Run, ready: waitFor(store.Synced, "delivery records")}},
		append(edge, part{name: "delivery", run: engine.Run}),
		{h},
		upkeep,
		listeners,
	}, nil
}

// edgeController builds the module of core objects.
func (p *process) edgeController(engine *delivery.Engine, store *records.Store) ([]Module, error) {
	meta := func(resource string) informers.GenericInformer {
		return p.metadata.ForResource(corev1.SchemeGroupVersion.WithResource(resource))
	}
	view, err := downstream.New(downstream.Config{}, p.clients.Typed, downstream.Informers{
		Nodes:      p.core.Core().V1().Nodes().Informer(),
		Pods:       p.pods.Core().V1().Pods().Informer(),
		ConfigMaps: meta("configmaps").Informer(),
		Secrets:    meta("secrets").Informer(),
	}, engine, p.reg)
	if err != nil {
		return nil, err
	}
	store.AddKinds(view.Kinds())
	if err := engine.AddSource(view); err != nil {
		return nil, err
	}
	ucfg := upstream.Config{LocalAddress: p.address, StatusPeriod: p.cfg.Modules.EdgeController.StatusPeriod()}
	if p.cfg.Modules.CloudHub.Authorization.Enforced() {
		ucfg.OnBehalfOf = kube.OnBehalfOf
	}
	up, err := upstream.New(ucfg, p.clients.Typed, p.bus, engine, view, p.reg)
	if err != nil {
		return nil, err
	}
	return []Module{part{name: "edgecontroller-downstream", run: view.Run, ready: view.Ready}, up}, nil
}

// authority loads, or makes, what the hub's identity consists of.
func (p *process) authority(ctx context.Context) (*pki.Authority, error) {
	c := &p.cfg.Modules.CloudHub
	a, err := pki.New(pki.Config{
		Namespace: namespace,
		CAFile:    c.TLSCAFile, CAKeyFile: c.TLSCAKeyFile, CertFile: c.TLSCertFile, KeyFile: c.TLSPrivateKeyFile,
		AdvertiseAddresses: c.AdvertiseAddress, DNSNames: c.DNSNames,
		NodeCertificateLifetime: c.EdgeCertValidity(), TokenRefresh: c.TokenRefresh(),
		// EdgeCore 1.15 and older asks with a subject of its own; the certificate that it gets names the node.
		AllowLegacyRequests: true,
	}, p.clients.Typed, p.reg)
	if err != nil {
		return nil, err
	}
	if err := a.Load(ctx); err != nil {
		return nil, fmt.Errorf("load the certificate authority of the edge: %w", err)
	}
	return a, nil
}

// listeners builds what edge nodes dial.
func (p *process) listeners(a *pki.Authority, h *hub.Hub, nodes nodeStore) ([]Module, error) {
	c := &p.cfg.Modules.CloudHub
	var out []Module
	if c.WebSocket.Enable {
		ws, err := websocket.New(websocket.Config{
			Address: hostPort(c.WebSocket.Address, c.WebSocket.Port), TLS: a.HubTLS(), WriteTimeout: c.WriteDeadline(),
			NodeName: func(leaf *x509.Certificate, claimed string) (string, error) {
				peer, err := a.Identify(leaf)
				if err != nil {
					return "", err
				}
				if peer.Legacy {
					return claimed, nil
				}
				return peer.Node, nil
			},
		}, h, p.reg)
		if err != nil {
			return nil, err
		}
		out = append(out, part{name: "websocket", run: ws.Run, ready: ws.Ready})
	}
	e, err := p.enroll(a, nodes)
	if err != nil {
		return nil, err
	}
	out = append(out, e)
	if c.UnixSocket.Enable {
		csi, err := csisocket.New(csisocket.Config{Address: c.UnixSocket.Address}, csiRequester{p.bus}, p.reg)
		if err != nil {
			return nil, err
		}
		out = append(out, part{name: "csi-socket", run: csi.Run})
	}
	return out, nil
}

// csiRequester carries requests of the CSI driver to nodes.
type csiRequester struct{ bus *bus.Bus }

func (r csiRequester) Request(ctx context.Context, node string, m *message.Message) (*message.Message, error) {
	m.Node = node
	return r.bus.Request(ctx, message.ModuleHub, m)
}

// enroll builds the HTTPS server on which nodes get their certificates.
func (p *process) enroll(a *pki.Authority, nodes nodeStore) (Module, error) {
	c := &p.cfg.Modules.CloudHub.HTTPS
	s, err := enroll.New(enroll.Config{Address: hostPort(c.Address, c.Port)}, enroll.Deps{
		TLS: a.EnrollTLS(), Issuer: a, Verifier: a, Nodes: knownNodes{nodes}, Registerer: p.reg,
		Reports: func(ctx context.Context, r enroll.Report) error {
			body, err := json.Marshal(r.Response)
			if err != nil {
				return err
			}
			return p.bus.Send(ctx, message.ModuleTask, message.New(r.Node, message.Route{
				Source: message.ModuleHub, Group: message.ModuleHub, Operation: r.TaskType, Resource: "task/" + r.TaskID + "/node/" + r.Node,
			}, body))
		},
	})
	if err != nil {
		return nil, err
	}
	return listener("enroll", hostPort(c.Address, c.Port), s.Serve), nil
}

// listener makes a module that opens a TCP port and serves on it; it is ready once the port is open.
func listener(name, address string, serve func(context.Context, net.Listener) error) Module {
	var open atomic.Bool
	return part{name: name, ready: waitFor(open.Load, "port "+address), run: func(ctx context.Context) error {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", address, err)
		}
		open.Store(true)
		defer open.Store(false)
		return serve(ctx, l)
	}}
}

// knownNodes answers from the cache of Nodes.
type knownNodes struct{ store nodeStore }

func (k knownNodes) NodeExists(_ context.Context, name string) (bool, error) {
	_, exists, err := k.store.GetByKey(name)
	return exists, err
}

// nodeStore is the part of a cache of Nodes that listeners need.
type nodeStore interface {
	GetByKey(key string) (item any, exists bool, err error)
}

func hostPort(host string, port uint32) string {
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

// informers runs the shared informers until ctx ends. Nodes come first: pods are kept in full or not by them.
func (p *process) informers(ctx context.Context) error {
	p.core.StartWithContext(ctx)
	p.core.WaitForCacheSyncWithContext(ctx)
	p.pods.StartWithContext(ctx)
	p.metadata.Start(ctx.Done())
	<-ctx.Done()
	p.metadata.Shutdown()
	p.pods.Shutdown()
	p.core.Shutdown()
	return nil
}

func waitFor(done func() bool, what string) func() error {
	waiting := errors.New(what + " are not complete yet")
	return func() error {
		if done() {
			return nil
		}
		return waiting
	}
}

// warnMissing names what the configuration enables and this build does not have.
func (p *process) warnMissing(logger klog.Logger) {
	m := &p.cfg.Modules
	for _, missing := range []struct {
		key     string
		enabled bool
	}{
		{"modules.deviceController.enable", m.DeviceController.Enable},
		{"modules.taskManager.enable", m.TaskManager.Enable},
		{"modules.dynamicController.enable", m.DynamicController.Enable},
		{"modules.cloudStream.enable", m.CloudStream.Enable},
		{"modules.router.enable", m.Router.Enable},
		{"modules.cloudHub.quic.enable", m.CloudHub.Quic.Enable},
	} {
		if missing.enabled {
			logger.Info("Configuration enables a module that this release does not have; its messages are refused", "key", missing.key)
		}
	}
}
