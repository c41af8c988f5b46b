package upstream

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/cloudcore-io/cloudcore/pkg/bus"
	"github.com/cloudcore-io/cloudcore/pkg/message"
)

// protobufServer answers each call with the same object, encoded as kube-apiserver encodes it.
type protobufServer struct{ body []byte }

func newProtobufServer(b *testing.B, o runtime.Object, encoder runtime.GroupVersioner) protobufServer {
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), runtime.ContentTypeProtobuf)
	if !ok {
		b.Fatal("no protobuf")
	}
	body, err := runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, encoder), o)
	if err != nil {
		b.Fatal(err)
	}
	return protobufServer{body}
}

func (s protobufServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {runtime.ContentTypeProtobuf}},
		Body: io.NopCloser(bytes.NewReader(s.body)), Request: r}, nil
}

// serveOne measures a request from the module's receiver to the frame of the answer, with all of client-go but the
// network.
func serveOne(b *testing.B, s protobufServer, wire string) {
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://apiserver", Transport: s, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: runtime.ContentTypeProtobuf}})
	if err != nil {
		b.Fatal(err)
	}
	answered := 0
	modules := bus.New()
	if _, err := modules.Register(message.ModuleHub, message.ModuleHub, func(_ context.Context, m *message.Message) error {
		answered += m.Frame().Len()
		return nil
	}); err != nil {
		b.Fatal(err)
	}
	m, err := New(Config{}, client, modules, &engine{}, newFakeView(edgeNode("edge-1"), pod("shop", "web-0", "edge-1", "77aa")), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		q, err := message.Decode([]byte(wire))
		if err != nil {
			b.Fatal(err)
		}
		q.Node = "edge-1"
		q.Header.Timestamp = metav1.Now().UnixMilli()
		m.serve(b.Context(), q)
	}
	if answered == 0 {
		b.Fatal("nothing was answered")
	}
}

// BenchmarkLeaseRenewal measures the hottest path.
//
//	go test -bench LeaseRenewal -run xxx ./pkg/edgecontroller/upstream/
func BenchmarkLeaseRenewal(b *testing.B) {
	holder, seconds, now := "edge-1", int32(40), metav1.NowMicro()
	l := lease("1401")
	l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "edge-1", UID: "9b"}}
	l.Spec = coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &now}
	l.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "cloudcore", Operation: "Update", APIVersion: "coordination.k8s.io/v1", FieldsType: "FieldsV1",
		FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:ownerReferences":{".":{},"k:{\"uid\":\"9b\"}":{}}},"f:spec":{"f:holderIdentity":{},"f:leaseDurationSeconds":{},"f:renewTime":{}}}`)}}
	serveOne(b, newProtobufServer(b, l, coordinationv1.SchemeGroupVersion), req("update", "kube-node-lease/lease/edge-1",
		`{"metadata":{"name":"edge-1","namespace":"kube-node-lease","uid":"1c","resourceVersion":"1400","ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"edge-1","uid":"9b"}]},`+leaseSpec+`}`))
}

// BenchmarkPodPatch measures a status report of a pod.
func BenchmarkPodPatch(b *testing.B) {
	p := pod("shop", "web-0", "edge-1", "77aa")
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", Image: "nginx", Ready: true}}}
	serveOne(b, newProtobufServer(b, p, corev1.SchemeGroupVersion), req("patch", "shop/podpatch/web-0",
		`"{\"metadata\":{\"uid\":\"77aa\"},\"status\":{\"phase\":\"Running\",\"containerStatuses\":[{\"name\":\"c\",\"ready\":true}]}}"`))
}
