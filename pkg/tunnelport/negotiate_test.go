package tunnelport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const namespace = "kubeedge"

// cluster is a clientset whose ConfigMap behaves as on a server: updates need the current
// resourceVersion, a second create is refused. The tracker behind the fake checks neither.
type cluster struct {
	*fake.Clientset
	mu      sync.Mutex // guards the fields below
	object  *corev1.ConfigMap
	version int
	writes  int
	refused int
	onRead  func(read int) // called without the lock, after each read
	reads   int
}

func newCluster(annotations map[string]string, pods ...runtime.Object) *cluster {
	c := &cluster{Clientset: fake.NewClientset(pods...)}
	if annotations != nil {
		c.version = 1
		c.object = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: ConfigMapName, Namespace: namespace, ResourceVersion: "1", Annotations: annotations}}
	}
	c.PrependReactor("*", "configmaps", c.react)
	return c
}

func (c *cluster) react(action clienttesting.Action) (bool, runtime.Object, error) {
	switch a := action.(type) {
	case clienttesting.CreateAction: // also updates
		return c.write(action.GetVerb(), a.GetObject().(*corev1.ConfigMap).DeepCopy())
	case clienttesting.GetAction:
		return c.read()
	}
	return true, nil, fmt.Errorf("unexpected %s", action.GetVerb())
}

func (c *cluster) read() (bool, runtime.Object, error) {
	c.mu.Lock()
	object, call := c.object.DeepCopy(), c.onRead
	c.reads++
	read := c.reads
	c.mu.Unlock()
	if call != nil {
		call(read)
	}
	if object == nil {
		return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, ConfigMapName)
	}
	return true, object, nil
}

func (c *cluster) write(verb string, object *corev1.ConfigMap) (bool, runtime.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	resource := schema.GroupResource{Resource: "configmaps"}
	switch {
	case verb == "create" && c.object != nil:
		c.refused++
		return true, nil, apierrors.NewAlreadyExists(resource, ConfigMapName)
	case verb == "update" && c.object == nil:
		c.refused++
		return true, nil, apierrors.NewNotFound(resource, ConfigMapName)
	case verb == "update" && object.ResourceVersion != c.object.ResourceVersion:
		c.refused++
		return true, nil, apierrors.NewConflict(resource, ConfigMapName, errors.New("the object has been modified"))
	}
	c.version++
	c.writes++
	object.ResourceVersion = strconv.Itoa(c.version)
	c.object = object
	return true, object.DeepCopy(), nil
}

func (c *cluster) record(t *testing.T) Record {
	t.Helper()
	r, err := ParseRecord(c.object.Annotations[RecordAnnotation])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func negotiate(t *testing.T, c *cluster, ip string) int {
	t.Helper()
	port, err := Negotiate(t.Context(), c, namespace, net.ParseIP(ip))
	if err != nil {
		t.Fatalf("Negotiate(%s): %v", ip, err)
	}
	return port
}

func TestSpec01Check10_FirstStartAndRestart(t *testing.T) {
	c := newCluster(nil)
	if got := negotiate(t, c, "10.0.0.5"); got != 10351 {
		t.Errorf("first port = %d, want 10351", got)
	}
	if got, want := c.object.Annotations[RecordAnnotation], `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`; got != want {
		t.Errorf("annotation %s, want %s", got, want)
	}
	if c.object.Data != nil || len(c.object.Annotations) != 1 {
		t.Errorf("object has more than the annotation: %+v", c.object)
	}
	version := c.object.ResourceVersion
	if got := negotiate(t, c, "10.0.0.5"); got != 10351 || c.object.ResourceVersion != version {
		t.Errorf("restart: port %d, resourceVersion %s; want 10351, %s", got, c.object.ResourceVersion, version)
	}
	if got := negotiate(t, c, "2001:db8::1"); got != 10352 {
		t.Errorf("second replica: %d", got)
	}
}

func TestSpec01Check11_FiveReplicasAtOnce(t *testing.T) {
	for name, annotations := range map[string]map[string]string{"empty cluster": nil, "with an object": {RecordAnnotation: "{}"}} {
		const replicas = 5
		c := newCluster(annotations)
		var started sync.WaitGroup
		started.Add(replicas)
		c.onRead = func(read int) {
			if read <= replicas { // all have seen the same state before anyone writes
				started.Done()
				started.Wait()
			}
		}
		var all sync.WaitGroup
		ports := make([]int, replicas)
		for i := range replicas {
			all.Go(func() {
				// A fake clientset handles one call at a time, so each replica has its own.
				own := fake.NewClientset()
				own.PrependReactor("*", "configmaps", c.react)
				port, err := Negotiate(t.Context(), own, namespace, net.IPv4(10, 0, 0, byte(i+1)))
				if err != nil {
					t.Errorf("%s: replica %d: %v", name, i, err)
				}
				ports[i] = port
			})
		}
		all.Wait()
		taken := map[int]bool{}
		for _, p := range ports {
			if p < 10351 || p > 10355 || taken[p] {
				t.Errorf("%s: ports %v", name, ports)
			}
			taken[p] = true
		}
		if r := c.record(t); len(r.IPTunnelPort) != replicas || len(r.Port) != replicas {
			t.Errorf("%s: record %s", name, r)
		}
		if c.refused < replicas-1 || c.writes != replicas {
			t.Errorf("%s: %d refused and %d done writes; the test wants races", name, c.refused, c.writes)
		}
	}
}

func TestSpec01Check12_RecordsOfOthers(t *testing.T) {
	const foreign = `{"ipTunnelPort":{"10.9.9.9":10351},"port":{"10351":true}}`
	for _, tc := range []struct {
		name, annotation, ip string
		port                 int
		want                 string
		writes               int
	}{
		{"takes the next", foreign, "10.0.0.5", 10352, `{"ipTunnelPort":{"10.0.0.5":10352,"10.9.9.9":10351},"port":{"10351":true,"10352":true}}`, 1},
		{"empty object", `{}`, "10.0.0.5", 10351, `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, 1},
		{"null maps", `{"ipTunnelPort":null,"port":null}`, "10.0.0.5", 10351, `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, 1},
		{"no text", ``, "10.0.0.5", 10351, `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, 1},
		{"ports without address are freed", `{"ipTunnelPort":{"10.9.9.9":10353},"port":{"10351":true,"10352":true,"10353":true}}`, "10.0.0.5", 10351,
			`{"ipTunnelPort":{"10.0.0.5":10351,"10.9.9.9":10353},"port":{"10351":true,"10353":true}}`, 1},
		{"but not without need", `{"ipTunnelPort":{"10.0.0.5":10353},"port":{"10351":true,"10353":true}}`, "10.0.0.5", 10353,
			`{"ipTunnelPort":{"10.0.0.5":10353},"port":{"10351":true,"10353":true}}`, 0},
		{"the empty address is freed", `{"ipTunnelPort":{"":10351},"port":{"10351":true}}`, "10.0.0.5", 10351, `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, 1},
		{"ports in use but not listed count", `{"ipTunnelPort":{"10.9.9.9":10351},"port":{}}`, "10.0.0.5", 10352,
			`{"ipTunnelPort":{"10.0.0.5":10352,"10.9.9.9":10351},"port":{"10352":true}}`, 1},
		{"own port is listed again", `{"ipTunnelPort":{"10.0.0.5":10351}}`, "10.0.0.5", 10351, `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, 1},
		{"own port out of range is replaced", `{"ipTunnelPort":{"10.0.0.5":22},"port":{"22":true}}`, "10.0.0.5", 10351, `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, 1},
	} {
		c := newCluster(map[string]string{RecordAnnotation: tc.annotation, "other": "kept"})
		c.object.Data = map[string]string{"k": "v"}
		if got := negotiate(t, c, tc.ip); got != tc.port {
			t.Errorf("%s: port %d, want %d", tc.name, got, tc.port)
		}
		if got := c.object.Annotations[RecordAnnotation]; got != tc.want || c.writes != tc.writes {
			t.Errorf("%s: %d writes, record\n%s, want\n%s", tc.name, c.writes, got, tc.want)
		}
		if c.object.Annotations["other"] != "kept" || c.object.Data["k"] != "v" {
			t.Errorf("%s: foreign parts changed: %+v", tc.name, c.object)
		}
	}

	c := newCluster(map[string]string{})
	c.object.Annotations = nil
	if got := negotiate(t, c, "10.0.0.5"); got != 10351 {
		t.Errorf("without the annotation: port %d", got)
	}
}

func pod(name, ip string, hostNetwork bool) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{"kubeedge": "cloudcore"}},
		Spec:       corev1.PodSpec{HostNetwork: hostNetwork},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

func TestPortsOfGonePodsAreFreed(t *testing.T) {
	c := newCluster(nil, pod("a", "10.244.0.1", false), pod("h", "10.0.0.9", true))
	negotiate(t, c, "10.244.0.1")
	negotiate(t, c, "10.0.0.9")
	negotiate(t, c, "192.0.2.7") // not a pod at all
	if got := c.object.Annotations[PodsAnnotation]; got != `["10.244.0.1"]` {
		t.Errorf("pod addresses %s", got)
	}
	// Every restart brings a new address; only one port is in use at any time.
	for i := range 20 {
		last, next := fmt.Sprintf("10.244.0.%d", i+1), fmt.Sprintf("10.244.0.%d", i+2)
		if err := c.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), namespace, "a"); err != nil {
			t.Fatal(err)
		}
		if err := c.Tracker().Add(pod("a", next, false)); err != nil {
			t.Fatal(err)
		}
		if got := negotiate(t, c, next); got != 10351 {
			t.Errorf("restart %d of the pod: port %d, want that of %s again", i, got, last)
		}
	}
	// Hosts keep their ports even while no pod of cloudcore runs there.
	if err := c.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), namespace, "h"); err != nil {
		t.Fatal(err)
	}
	negotiate(t, c, "10.0.0.10")
	want := map[string]int{"10.244.0.21": 10351, "10.0.0.9": 10352, "192.0.2.7": 10353, "10.0.0.10": 10354}
	if got := c.record(t).IPTunnelPort; !reflect.DeepEqual(got, want) {
		t.Errorf("record %v, want %v", got, want)
	}
}

func TestPodsOfOtherImplementationsAreRemembered(t *testing.T) {
	c := newCluster(map[string]string{RecordAnnotation: `{"ipTunnelPort":{"10.244.0.1":10351},"port":{"10351":true}}`, PodsAnnotation: "not JSON"}, pod("theirs", "10.244.0.1", false))
	negotiate(t, c, "10.0.0.5")
	if got := c.object.Annotations[PodsAnnotation]; got != `["10.244.0.1"]` {
		t.Errorf("pod addresses %s", got)
	}
	if err := c.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), namespace, "theirs"); err != nil {
		t.Fatal(err)
	}
	if got := negotiate(t, c, "10.0.0.6"); got != 10351 {
		t.Errorf("port %d, want the freed 10351", got)
	}
	if _, ok := c.object.Annotations[PodsAnnotation]; ok {
		t.Error("an empty list of pod addresses is kept")
	}
}

func TestPodsNotListable(t *testing.T) {
	c := newCluster(map[string]string{RecordAnnotation: `{"ipTunnelPort":{"10.244.0.1":10352},"port":{"10351":true,"10352":true}}`, PodsAnnotation: `["10.244.0.1"]`})
	c.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no"))
	})
	if got := negotiate(t, c, "10.0.0.5"); got != 10351 {
		t.Errorf("port %d", got)
	}
	if r := c.record(t); r.IPTunnelPort["10.244.0.1"] != 10352 || c.object.Annotations[PodsAnnotation] != `["10.244.0.1"]` {
		t.Errorf("record %s, annotations %v", r, c.object.Annotations)
	}
}

func TestObjectDeletedMeanwhile(t *testing.T) {
	c := newCluster(map[string]string{RecordAnnotation: `{}`})
	c.onRead = func(read int) {
		if read == 1 {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.object = nil
		}
	}
	if got := negotiate(t, c, "10.0.0.5"); got != 10351 || c.refused != 1 {
		t.Errorf("port %d after %d refused writes", got, c.refused)
	}
}

func TestNegotiationFailsClearly(t *testing.T) {
	full := Record{IPTunnelPort: map[string]int{}, Port: map[int]bool{}}
	for p := firstPort; p <= lastPort; p++ {
		full.IPTunnelPort["host-"+strconv.Itoa(p)] = p
	}
	for _, tc := range []struct {
		name, annotation string
		ip               net.IP
		want             string
	}{
		{"no address", `{}`, nil, `"<nil>" is not the address of a replica`},
		{"any address", `{}`, net.IPv4zero, `"0.0.0.0" is not the address of a replica`},
		{"not JSON", `{`, net.IPv4(10, 0, 0, 5), "kubeedge/tunnelport: parse annotation tunnelportrecord.kubeedge.io"},
		{"other JSON", `{"port":{"x":true}}`, net.IPv4(10, 0, 0, 5), "parse annotation"},
		{"all taken", full.String(), net.IPv4(10, 0, 0, 5), "no port from 10351 to 65535 is free"},
	} {
		c := newCluster(map[string]string{RecordAnnotation: tc.annotation})
		_, err := Negotiate(t.Context(), c, namespace, tc.ip)
		if err == nil || !strings.Contains(err.Error(), tc.want) || c.writes != 0 {
			t.Errorf("%s: error %v after %d writes, want %q", tc.name, err, c.writes, tc.want)
		}
	}
}

func TestNegotiationEndsWithItsContext(t *testing.T) {
	c := newCluster(map[string]string{RecordAnnotation: `{}`})
	ctx, cancel := context.WithCancel(t.Context())
	c.onRead = func(read int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.version++
		c.object.ResourceVersion = strconv.Itoa(c.version) // someone else always writes first
		if read == 7 {
			cancel()
		}
	}
	if _, err := Negotiate(ctx, c, namespace, net.IPv4(10, 0, 0, 5)); !errors.Is(err, context.Canceled) || c.reads != 7 {
		t.Errorf("error %v after %d rounds", err, c.reads)
	}
	c.onRead = func(int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.version++
		c.object.ResourceVersion = strconv.Itoa(c.version)
	}
	if _, err := Negotiate(t.Context(), c, namespace, net.IPv4(10, 0, 0, 5)); err == nil || c.reads != 7+maxRounds {
		t.Errorf("error %v after %d rounds", err, c.reads)
	}
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{"", "{}", `{"ipTunnelPort":{"10.0.0.5":10351},"port":{"10351":true}}`, `{"ipTunnelPort":null}`, `{"port":{"-1":false}}`, "[]", "null"} {
		f.Add(s, "10.0.0.5")
	}
	f.Fuzz(func(t *testing.T, text, ip string) {
		r, err := ParseRecord(text)
		if err != nil || !utf8.ValidString(ip) {
			return
		}
		port, ok, _ := r.keep(ip)
		if !ok {
			if port, err = r.assign(ip); err != nil {
				t.Fatal(err)
			}
		}
		if port < firstPort || port > lastPort || !r.Port[port] {
			t.Fatalf("port %d from %q", port, text)
		}
		again, err := ParseRecord(r.String())
		if err != nil {
			t.Fatal(err)
		}
		if kept, ok, changed := again.keep(ip); !ok || kept != port || changed {
			t.Fatalf("%q: kept %d, want %d", text, kept, port)
		}
	})
}

func TestLocalIP(t *testing.T) {
	fails := errors.New("fails")
	machine := func(route string, name error, resolved ...string) host {
		return host{
			defaultRoute: func() (net.IP, error) {
				if route == "" {
					return nil, fails
				}
				return net.ParseIP(route), nil
			},
			hostname: func() (string, error) { return "cloud-1", name },
			resolve: func(context.Context, string) ([]net.IP, error) {
				if resolved == nil {
					return nil, fails
				}
				var out []net.IP
				for _, s := range resolved {
					out = append(out, net.ParseIP(s))
				}
				return out, nil
			},
			addresses: func() ([]net.Addr, error) {
				return []net.Addr{&net.IPNet{IP: net.ParseIP("127.0.0.1")}, &net.IPNet{IP: net.ParseIP("10.0.0.5")}, &net.IPNet{IP: net.ParseIP("fe80::1")}}, nil
			},
		}
	}
	for _, tc := range []struct {
		name string
		h    host
		want string
	}{
		{"default route", machine("192.0.2.1", fails), "192.0.2.1"},
		{"by name", machine("", nil, "127.0.0.1", "10.9.9.9", "fe80::1", "10.0.0.5"), "10.0.0.5"},
		{"route without address", machine("nonsense", nil, "10.0.0.5"), "10.0.0.5"},
	} {
		ip, err := localIP(t.Context(), tc.h)
		if err != nil || ip.String() != tc.want {
			t.Errorf("%s: %v, %v; want %s", tc.name, ip, err, tc.want)
		}
	}
	noAddresses := machine("", nil, "10.0.0.5")
	noAddresses.addresses = func() ([]net.Addr, error) { return nil, fails }
	for name, h := range map[string]host{
		"no name":           machine("", fails),
		"not resolvable":    machine("", nil),
		"foreign addresses": machine("", nil, "10.9.9.9"),
		"no addresses":      noAddresses,
	} {
		ip, err := localIP(t.Context(), h)
		if err == nil || !errors.Is(err, fails) || !strings.Contains(err.Error(), "default route") || !strings.Contains(err.Error(), "host name") {
			t.Errorf("%s: %v, %v", name, ip, err)
		}
	}
	if ip, err := LocalIP(t.Context()); err == nil && len(ip) == 0 {
		t.Error("no error and no address on this machine")
	}
}
