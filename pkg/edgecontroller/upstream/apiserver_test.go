package upstream

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// apiserver is the other end of a real client: enough of kube-apiserver's REST semantics for what the module uses
// (versions, conflicts, preconditions, status subresources, strategic merge), and a record of the calls on the wire.
type apiserver struct {
	t testing.TB
	// fail answers a call before the store does, unless it returns nil.
	fail func(r *http.Request) error
	// caller is what the transport knows of the identity behind a call, or nil.
	caller func(r *http.Request) string

	mu      sync.Mutex // guards what follows
	version int
	objects map[string]map[string]any // by path
	calls   []string
}

func newAPIServer(t testing.TB, objects ...metav1.Object) *apiserver {
	s := &apiserver{t: t, version: 1000, objects: map[string]map[string]any{}}
	for _, o := range objects {
		s.put(o)
	}
	return s
}

func (s *apiserver) client() kubernetes.Interface {
	c, err := kubernetes.NewForConfig(&rest.Config{
		Host: "http://apiserver", Transport: s, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// collections are the resources by the type of their objects.
func collection(o metav1.Object) string {
	ns := "/namespaces/" + o.GetNamespace()
	return map[string]string{
		"*v1.Node": "/api/v1/nodes", "*v1.Pod": "/api/v1" + ns + "/pods", "*v1.ConfigMap": "/api/v1" + ns + "/configmaps",
		"*v1.Secret": "/api/v1" + ns + "/secrets", "*v1.PersistentVolume": "/api/v1/persistentvolumes",
		"*v1.PersistentVolumeClaim": "/api/v1" + ns + "/persistentvolumeclaims", "*v1.Event": "/api/v1" + ns + "/events",
		"*v1.Lease":                     "/apis/coordination.k8s.io/v1" + ns + "/leases",
		"*v1.VolumeAttachment":          "/apis/storage.k8s.io/v1/volumeattachments",
		"*v1.CertificateSigningRequest": "/apis/certificates.k8s.io/v1/certificatesigningrequests",
	}[reflect.TypeOf(o).String()]
}

// put stores an object as it is.
func (s *apiserver) put(o metav1.Object) {
	body, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	m := map[string]any{}
	if err := json.Unmarshal(body, &m); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[collection(o)+"/"+o.GetName()] = m
}

// get reads a stored object back.
func get[T any](s *apiserver, path string) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.objects[path]
	if !ok {
		return nil
	}
	body, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	o := new(T)
	if err := json.Unmarshal(body, o); err != nil {
		s.t.Fatal(err)
	}
	return o
}

// took returns the calls since the last time.
func (s *apiserver) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.calls
	s.calls = nil
	return c
}

func (s *apiserver) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, s.describe(r, body))
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	var out any
	var err error
	if s.fail != nil {
		err = s.fail(r)
	}
	if err == nil {
		out, err = s.answer(r, body)
	}
	code := http.StatusOK
	if err != nil {
		api, ok := err.(apierrors.APIStatus)
		if !ok {
			return nil, err
		}
		st := api.Status()
		st.Kind, st.APIVersion = "Status", "v1"
		out, code = st, int(st.Code)
	}
	answer, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(answer)), Request: r,
	}, nil
}

// describe writes a call as one line. Bodies of patches and deletions are written as they are; of other bodies only
// that there is one.
func (s *apiserver) describe(r *http.Request, body []byte) string {
	call := r.Method + " " + r.URL.Path
	if r.URL.RawQuery != "" {
		call += "?" + r.URL.RawQuery
	}
	switch r.Method {
	case http.MethodPatch:
		call += " " + strings.TrimSuffix(strings.TrimPrefix(r.Header.Get("Content-Type"), "application/"), "+json") + " " + string(body)
	case http.MethodDelete:
		call += " " + strings.TrimSpace(string(body))
	}
	if s.caller != nil {
		call = s.caller(r) + " " + call
	}
	return call
}

func (s *apiserver) answer(r *http.Request, body []byte) (any, error) {
	path, sub := r.URL.Path, ""
	for _, name := range []string{"status", "token"} {
		if p, ok := strings.CutSuffix(path, "/"+name); ok {
			path, sub = p, name
		}
	}
	slash := strings.LastIndex(path, "/")
	name, resource := path[slash+1:], path[strings.LastIndex(path[:slash], "/")+1:slash]
	gr := schema.GroupResource{Resource: resource}
	if rest, ok := strings.CutPrefix(path, "/apis/"); ok {
		gr.Group, _, _ = strings.Cut(rest, "/")
	}
	old := s.objects[path]
	switch {
	case sub == "token":
		return s.token(path, body)
	case r.Method == http.MethodPost:
		return s.create(path, name, gr.Group, body)
	case r.Method == http.MethodGet && name == "pods":
		return s.list(r, path)
	case old == nil:
		return nil, apierrors.NewNotFound(gr, name)
	case r.Method == http.MethodGet:
		return old, nil
	case r.Method == http.MethodPut:
		return s.update(gr, path, sub, old, body)
	case r.Method == http.MethodPatch:
		return s.patch(gr, path, sub, old, body)
	case r.Method == http.MethodDelete:
		return s.remove(gr, path, old, body)
	}
	return nil, apierrors.NewMethodNotSupported(gr, r.Method)
}

func meta(o map[string]any) map[string]any {
	m, ok := o["metadata"].(map[string]any)
	if !ok {
		m = map[string]any{}
		o["metadata"] = m
	}
	return m
}

func (s *apiserver) stamp(o map[string]any) {
	s.version++
	meta(o)["resourceVersion"] = strconv.Itoa(s.version)
}

func (s *apiserver) create(path, resource, group string, body []byte) (any, error) {
	o := map[string]any{}
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	name, _ := meta(o)["name"].(string)
	if s.objects[path+"/"+name] != nil {
		return nil, apierrors.NewAlreadyExists(schema.GroupResource{Group: group, Resource: resource}, name)
	}
	s.stamp(o)
	meta(o)["uid"] = fmt.Sprintf("uid-%d", s.version)
	meta(o)["managedFields"] = []any{map[string]any{"manager": "test"}}
	s.objects[path+"/"+name] = o
	return o, nil
}

func (s *apiserver) list(r *http.Request, path string) (any, error) {
	node, _ := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "spec.nodeName=")
	items := []any{}
	for key, o := range s.objects {
		spec, _ := o["spec"].(map[string]any)
		in := strings.HasPrefix(key, path+"/") || (path == "/api/v1/pods" && strings.Contains(key, "/pods/"))
		if in && spec["nodeName"] == node {
			items = append(items, o)
		}
	}
	return map[string]any{"kind": "PodList", "apiVersion": "v1", "metadata": map[string]any{}, "items": items}, nil
}

func (s *apiserver) update(gr schema.GroupResource, path, sub string, old map[string]any, body []byte) (any, error) {
	o := map[string]any{}
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	name, _ := meta(old)["name"].(string)
	if v := meta(o)["resourceVersion"]; v != nil && v != meta(old)["resourceVersion"] {
		return nil, apierrors.NewConflict(gr, name, fmt.Errorf("the object has been modified"))
	}
	return s.replace(path, sub, old, o), nil
}

// replace stores o in place of old; a status call changes nothing of the spec, and any other nothing of the status.
func (s *apiserver) replace(path, sub string, old, o map[string]any) map[string]any {
	meta(o)["uid"] = meta(old)["uid"]
	if sub == "status" {
		o["spec"] = old["spec"]
	} else if _, ok := old["status"]; ok {
		o["status"] = old["status"]
	}
	s.stamp(o)
	s.objects[path] = o
	return o
}

func (s *apiserver) patch(gr schema.GroupResource, path, sub string, old map[string]any, body []byte) (any, error) {
	name, _ := meta(old)["name"].(string)
	var head struct{ Metadata struct{ UID string } }
	if err := json.Unmarshal(body, &head); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if uid := head.Metadata.UID; uid != "" && uid != meta(old)["uid"] {
		return nil, apierrors.NewConflict(gr, name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	before, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	typed := map[string]any{"nodes": corev1.Node{}, "pods": corev1.Pod{}, "events": corev1.Event{}}[gr.Resource]
	after, err := strategicpatch.StrategicMergePatch(before, body, typed)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	o := map[string]any{}
	if err := json.Unmarshal(after, &o); err != nil {
		return nil, err
	}
	return s.replace(path, sub, old, o), nil
}

func (s *apiserver) remove(gr schema.GroupResource, path string, old map[string]any, body []byte) (any, error) {
	name, _ := meta(old)["name"].(string)
	var options metav1.DeleteOptions
	if err := json.Unmarshal(body, &options); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if p := options.Preconditions; p != nil && p.UID != nil && string(*p.UID) != meta(old)["uid"] {
		return nil, apierrors.NewConflict(gr, name, fmt.Errorf("precondition failed: uid"))
	}
	delete(s.objects, path)
	return metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess}, nil
}

func (s *apiserver) token(path string, body []byte) (any, error) {
	o := map[string]any{}
	if err := json.Unmarshal(body, &o); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	tokens := strings.Split(path, "/")
	o["metadata"] = map[string]any{"name": tokens[6], "namespace": tokens[4], "uid": "t"}
	o["status"] = map[string]any{"token": "tok", "expirationTimestamp": "2026-01-01T01:00:07Z"}
	return o, nil
}
