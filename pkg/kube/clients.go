package kube

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned"
)

// Config says how to reach kube-apiserver.
type Config struct {
	// Master is the URL of kube-apiserver; it wins over the server of Kubeconfig.
	Master string
	// Kubeconfig is the path of a kubeconfig file. With Master empty as well, the service account of the pod is used.
	Kubeconfig string
	// QPS and Burst limit all clients together.
	QPS, Burst int
	// Impersonate makes calls that are marked by OnBehalfOf act as their node.
	Impersonate bool
	// UserAgent of all requests.
	UserAgent string
	// ContentType of requests with built-in kinds: JSON if it says so, else protobuf.
	ContentType string
}

// Clients are the clients of one process. They are safe for concurrent use.
type Clients struct {
	Typed    kubernetes.Interface
	CRD      versioned.Interface
	Dynamic  dynamic.Interface
	Metadata metadata.Interface
	Mapper   meta.ResettableRESTMapper
	// CA is the certificate authority of kube-apiserver in PEM; empty if the system's authorities vouch for it.
	CA []byte
	// REST is the configuration that all are made of, without encoding. Read-only.
	REST *rest.Config
}

// New builds the clients. It reads files but makes no connection.
func New(cfg Config, reg prometheus.Registerer) (*Clients, error) {
	base, err := load(cfg)
	if err != nil {
		return nil, err
	}
	return build(base, cfg, reg)
}

func build(base *rest.Config, cfg Config, reg prometheus.Registerer) (*Clients, error) {
	err := tune(base, cfg, reg)
	if err != nil {
		return nil, err
	}
	c := &Clients{REST: base}
	if c.CA, err = authority(base); err != nil {
		return nil, err
	}
	typed := rest.CopyConfig(base)
	if cfg.ContentType == runtime.ContentTypeJSON {
		typed.ContentType = runtime.ContentTypeJSON
	} else {
		typed.ContentType = runtime.ContentTypeProtobuf
		typed.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	}
	hc, err := rest.HTTPClientFor(base)
	if err != nil {
		return nil, fmt.Errorf("build the transport to kube-apiserver: %w", err)
	}
	if c.Typed, err = kubernetes.NewForConfigAndClient(typed, hc); err != nil {
		return nil, fmt.Errorf("build the typed client: %w", err)
	}
	if c.CRD, err = versioned.NewForConfigAndClient(rest.CopyConfig(base), hc); err != nil {
		return nil, fmt.Errorf("build the client of custom resources: %w", err)
	}
	if c.Dynamic, err = dynamic.NewForConfigAndClient(base, hc); err != nil {
		return nil, fmt.Errorf("build the dynamic client: %w", err)
	}
	if c.Metadata, err = metadata.NewForConfigAndClient(metadata.ConfigFor(base), hc); err != nil {
		return nil, fmt.Errorf("build the metadata client: %w", err)
	}
	c.Mapper = newMapper(restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.Typed.Discovery())))
	return c, nil
}

func load(cfg Config) (*rest.Config, error) {
	if cfg.Master == "" && cfg.Kubeconfig == "" {
		c, err := rest.InClusterConfig() // re-reads its token as it rotates
		if err != nil {
			return nil, fmt.Errorf("kubeAPIConfig names neither kubeConfig nor master, and this is no pod: %w", err)
		}
		return c, nil
	}
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: cfg.Kubeconfig}
	overrides := &clientcmd.ConfigOverrides{}
	overrides.ClusterInfo.Server = cfg.Master
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("load kubeconfig %q: %w", cmp.Or(cfg.Kubeconfig, "(none)"), err)
	}
	return c, nil
}

func tune(c *rest.Config, cfg Config, reg prometheus.Registerer) error {
	c.UserAgent = cmp.Or(cfg.UserAgent, rest.DefaultKubernetesUserAgent())
	m, err := newMetrics(reg)
	if err != nil {
		return err
	}
	limiter := flowcontrol.NewTokenBucketRateLimiter(float32(max(cfg.QPS, 1)), max(cfg.Burst, 1))
	c.RateLimiter = &timedLimiter{RateLimiter: limiter, wait: m.wait}
	c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &measured{next: next, metrics: m} })
	if cfg.Impersonate {
		c.Wrap(func(next http.RoundTripper) http.RoundTripper { return &impersonated{next: next} })
	}
	return nil
}

// authority returns the CA of kube-apiserver from wherever the configuration has it.
func authority(c *rest.Config) ([]byte, error) {
	if len(c.CAData) > 0 || c.CAFile == "" {
		return c.CAData, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA of kube-apiserver: %w", err)
	}
	return pem, nil
}

type nodeKey struct{}

// OnBehalfOf marks the calls of ctx as made for a node.
func OnBehalfOf(ctx context.Context, node string) context.Context {
	return context.WithValue(ctx, nodeKey{}, node)
}

// impersonated turns the mark of OnBehalfOf into headers.
type impersonated struct{ next http.RoundTripper }

func (t *impersonated) RoundTrip(r *http.Request) (*http.Response, error) {
	node, ok := r.Context().Value(nodeKey{}).(string)
	if !ok {
		return t.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Header.Set(transport.ImpersonateUserHeader, "system:node:"+node)
	r.Header.Set(transport.ImpersonateGroupHeader, "system:nodes")
	return t.next.RoundTrip(r)
}

// WrappedRoundTripper lets client-go find the transport beneath.
func (t *impersonated) WrappedRoundTripper() http.RoundTripper { return t.next }
