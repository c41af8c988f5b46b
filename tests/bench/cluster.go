package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudcore-io/cloudcore/config/crds"
)

// namespace holds what the bench creates.
const namespace = "bench"

// cluster is a control plane with the definitions of cloudcore.
type cluster struct {
	*child
	kubeconfig, audit, control string
	client                     kubernetes.Interface
	pids                       map[string]int
}

// startCluster returns a control plane that is ready. It is not nil, and must be stopped, if its process was started.
func startCluster(ctx context.Context, binary, dir string) (*cluster, error) {
	data := filepath.Join(dir, "cluster")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of the control plane: %w", err)
	}
	c := &cluster{kubeconfig: filepath.Join(data, "admin.conf"), audit: filepath.Join(dir, "audit.log")}
	var err error
	if c.child, err = startChild(filepath.Join(dir, "localcluster.log"), binary, "--dir", data, "--audit-log", c.audit); err != nil {
		return nil, err
	}
	return c, c.prepare(ctx, data)
}

func (c *cluster) prepare(ctx context.Context, data string) error {
	err := c.await(ctx, "the control plane", func(context.Context) error {
		out, err := os.ReadFile(c.log)
		if err == nil && !bytes.Contains(out, []byte("ready: ")) {
			err = errors.New("not ready")
		}
		return err
	})
	if err != nil {
		return err
	}
	url, err := os.ReadFile(filepath.Join(data, "control"))
	if err != nil {
		return fmt.Errorf("find the control endpoint: %w", err)
	}
	c.control = strings.TrimSpace(string(url))
	if err := c.readPIDs(ctx); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1 // the load is what the bench wants, not what a client allows
	typed := rest.CopyConfig(config)
	typed.ContentType = runtime.ContentTypeProtobuf
	if c.client, err = kubernetes.NewForConfig(typed); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	if err := c.installCRDs(ctx, config); err != nil {
		return err
	}
	return c.createNamespace(ctx)
}

// readPIDs asks localcluster for the processes of the components.
func (c *cluster) readPIDs(ctx context.Context) error {
	body, err := get(ctx, c.control+"/")
	if err != nil {
		return err
	}
	var status struct {
		Components []struct {
			Name string
			PID  int
		}
	}
	if err := json.Unmarshal(body, &status); err != nil {
		return fmt.Errorf("parse status of the control plane: %w", err)
	}
	c.pids = make(map[string]int)
	for _, m := range status.Components {
		c.pids[m.Name] = m.PID
	}
	return nil
}

// cpu is the processor time of components.
func (c *cluster) cpu(names ...string) (time.Duration, error) {
	var sum time.Duration
	for _, name := range names {
		t, err := cpuTime(c.pids[name])
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += t
	}
	return sum, nil
}

func (c *cluster) installCRDs(ctx context.Context, config *rest.Config) error {
	client, err := apiextensions.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client of resource definitions: %w", err)
	}
	list, err := crds.List()
	if err != nil {
		return err
	}
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	for _, crd := range list {
		if _, err := definitions.Create(ctx, crd, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create definition %s: %w", crd.Name, err)
		}
	}
	for _, crd := range list {
		err := c.await(ctx, "definition "+crd.Name, func(ctx context.Context) error {
			got, err := definitions.Get(ctx, crd.Name, metav1.GetOptions{})
			if err == nil && !established(got) {
				err = errors.New("not established")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func established(crd *apiextensionsv1.CustomResourceDefinition) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
			return true
		}
	}
	return false
}

// createNamespace makes the namespace and waits until pods can be made in it.
func (c *cluster) createNamespace(ctx context.Context) error {
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := c.client.CoreV1().Namespaces().Create(ctx, object, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create namespace %s: %w", namespace, err)
	}
	return c.await(ctx, "the service account of namespace "+namespace, func(ctx context.Context) error {
		_, err := c.client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// get reads a page over HTTP.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256<<20))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", req.URL.Path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", req.URL.Path, resp.Status)
	}
	return body, nil
}
