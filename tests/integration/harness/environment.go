package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/cloudcore-io/cloudcore/config/crds"
	"github.com/cloudcore-io/cloudcore/pkg/generated/clientset/versioned"
)

// Settings say where the programs come from.
type Settings struct {
	// LocalCluster is the path of the localcluster binary.
	LocalCluster string
	// Module is the folder of the module that cloudcore is built from.
	Module string
	// Dir holds all data; it must be empty.
	Dir string
	// NoRace builds cloudcore without the race detector, for measurements.
	NoRace bool
}

// Environment is a control plane with the definitions of cloudcore, and a cloudcore binary.
type Environment struct {
	// Kubeconfig is the path of the administrator's kubeconfig.
	Kubeconfig string
	// Client and CRD are clients of the administrator, without a rate limit.
	Client kubernetes.Interface
	CRD    versioned.Interface

	dir     string
	binary  string
	cluster *child
	log     *logSink
	names   atomic.Int64
}

// clusterStart bounds the first start of a control plane on a busy machine.
const clusterStart = 3 * time.Minute

// Boot starts the control plane, installs the definitions and builds cloudcore. The caller must Close the environment.
func Boot(ctx context.Context, s Settings) (*Environment, error) {
	if _, err := os.Stat(s.LocalCluster); err != nil {
		return nil, fmt.Errorf("no control plane to test with, build it with `make build` or name it in LOCALCLUSTER: %w", err)
	}
	e := &Environment{dir: s.Dir, binary: filepath.Join(s.Dir, "cloudcore"), log: &logSink{}}
	data := filepath.Join(s.Dir, "cluster")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the control plane: %w", err)
	}
	e.Kubeconfig = filepath.Join(data, "admin.conf")
	ready := &readyWriter{sink: e.log, seen: make(chan struct{})}
	var err error
	if e.cluster, err = startChild(ready, s.LocalCluster, "--dir", data); err != nil {
		return nil, err
	}
	if err := e.prepare(ctx, s, ready.seen); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *Environment) prepare(ctx context.Context, s Settings, ready <-chan struct{}) error {
	built := make(chan error, 1)
	go func() { built <- build(ctx, s, e.binary) }()
	if err := errors.Join(e.awaitCluster(ctx, ready), <-built); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", e.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig of the control plane: %w", err)
	}
	config.QPS = -1
	if e.Client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("make a client of the control plane: %w", err)
	}
	if e.CRD, err = versioned.NewForConfig(config); err != nil {
		return fmt.Errorf("make a client of the custom resources: %w", err)
	}
	return installCRDs(ctx, config)
}

func (e *Environment) awaitCluster(ctx context.Context, ready <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, clusterStart)
	defer cancel()
	select {
	case <-ready:
		return nil
	case <-e.cluster.done:
		return fmt.Errorf("the control plane ended while it started:\n%s", e.log.text())
	case <-ctx.Done():
		return fmt.Errorf("the control plane is not ready: %w\n%s", context.Cause(ctx), e.log.text())
	}
}

// readyWriter reports the line by which localcluster says that it serves.
type readyWriter struct {
	sink *logSink
	text []byte
	seen chan struct{}
	done bool
}

func (w *readyWriter) Write(p []byte) (int, error) {
	if !w.done {
		w.text = append(w.text, p...)
		if bytes.HasPrefix(w.text, []byte("ready")) || bytes.Contains(w.text, []byte("\nready")) {
			w.done, w.text = true, nil
			close(w.seen)
		}
	}
	return w.sink.Write(p)
}

// build compiles cloudcore.
func build(ctx context.Context, s Settings, target string) error {
	args := []string{"build", "-o", target}
	if !s.NoRace {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/cloudcore")...)
	cmd.Dir = s.Module
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build cloudcore: %w\n%s", err, out)
	}
	return nil
}

// installCRDs creates the definitions and waits until kube-apiserver serves them.
func installCRDs(ctx context.Context, config *rest.Config) error {
	client, err := apiextensions.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client of resource definitions: %w", err)
	}
	list, err := crds.List()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	for _, crd := range list {
		if _, err := definitions.Create(ctx, crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create definition %s: %w", crd.Name, err)
		}
	}
	for _, crd := range list {
		selector := fields.OneTermEqualSelector("metadata.name", crd.Name).String()
		_, err := watchtools.UntilWithSync(ctx, listWatch(ctx, selector, definitions.List, definitions.Watch),
			&apiextensionsv1.CustomResourceDefinition{}, nil, func(ev watch.Event) (bool, error) { return established(ev), nil })
		if err != nil {
			return fmt.Errorf("wait for definition %s: %w", crd.Name, err)
		}
	}
	return nil
}

func established(ev watch.Event) bool {
	crd, ok := ev.Object.(*apiextensionsv1.CustomResourceDefinition)
	if !ok {
		return false
	}
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
			return true
		}
	}
	return false
}

// Close stops the control plane.
func (e *Environment) Close() error {
	if e.cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.cluster.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := e.cluster.wait(ctx); err != nil {
		return errors.Join(err, e.cluster.signal(syscall.SIGKILL))
	}
	if e.cluster.err != nil {
		return fmt.Errorf("the control plane ended badly: %w\n%s", e.cluster.err, e.log.text())
	}
	return nil
}

// Name returns a name that no other test uses, fit for namespaces and node names.
func (e *Environment) Name(prefix string) string {
	return prefix + "-" + strconv.FormatInt(e.names.Add(1), 10)
}

// Namespace makes a namespace for one test and waits until pods can be made in it.
func (e *Environment) Namespace(t testing.TB, prefix string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	name := e.Name(prefix)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := e.Client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create namespace %s: %v", name, err)
	}
	accounts := e.Client.CoreV1().ServiceAccounts(name)
	selector := fields.OneTermEqualSelector("metadata.name", "default").String()
	_, err := watchtools.UntilWithSync(ctx, listWatch(ctx, selector, accounts.List, accounts.Watch), &corev1.ServiceAccount{}, nil,
		func(ev watch.Event) (bool, error) { return ev.Type == watch.Added || ev.Type == watch.Modified, nil })
	if err != nil {
		t.Fatalf("wait for the service account of namespace %s: %v", name, err)
	}
	return name
}
