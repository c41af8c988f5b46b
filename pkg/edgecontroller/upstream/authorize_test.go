package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"testing/synctest"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestNodesAreKeptApart lets edge-1 ask for what is not its own. It gets the refusal in the form of the row, and
// nothing changes.
func TestNodesAreKeptApart(t *testing.T) {
	foreign := pod("shop", "web-1", "edge-2", "u2")
	foreign.Spec.ServiceAccountName = "admin"
	foreign.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "theirs"}}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "theirs"}}},
	}
	foreign.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	own := pod("shop", "web-0", "edge-1", "u1")
	meta := func(ns, name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: ns, Name: name, UID: "x", ResourceVersion: "5"}
	}
	objects := []metav1.Object{
		edgeNode("edge-1"), edgeNode("edge-2"), foreign, own,
		&corev1.ConfigMap{ObjectMeta: meta("shop", "theirs")}, &corev1.Secret{ObjectMeta: meta("shop", "theirs")},
		&corev1.Secret{ObjectMeta: meta("shop", "nobodys")},
		&corev1.PersistentVolumeClaim{ObjectMeta: meta("shop", "data")},
		&corev1.PersistentVolume{ObjectMeta: meta("", "pv-2"), Spec: corev1.PersistentVolumeSpec{ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "data"}}},
		&corev1.PersistentVolume{ObjectMeta: meta("", "free")},
		&storagev1.VolumeAttachment{ObjectMeta: meta("", "va-2"), Spec: storagev1.VolumeAttachmentSpec{NodeName: "edge-2"}},
		&certificatesv1.CertificateSigningRequest{ObjectMeta: meta("", "csr-2"), Spec: kubeletCSR(t, "edge-2", "system:nodes")},
		&corev1.Event{ObjectMeta: meta("shop", "e")},
	}
	const mirror = `"metadata":{"name":"m","annotations":{"kubernetes.io/config.mirror":"h"}}`
	token := func(ref string) string { return `{"spec":{"boundObjectRef":` + ref + `}}` }

	for name, tc := range map[string]struct {
		op, resource, content string
		asObject, silent      bool
	}{
		"node insert":               {"insert", "null/node/edge-2", `{}`, true, false},
		"node patch":                {"patch", "null/nodepatch/edge-2", `"{}"`, true, false},
		"node query":                {"query", "default/node/edge-2", `null`, false, false},
		"node update":               {"update", "null/node/edge-2", `{"metadata":{"labels":{"a":"b"}}}`, false, false},
		"node status insert":        {"insert", "default/nodestatus/edge-2", `{}`, false, false},
		"node status update":        {"update", "default/nodestatus/edge-2", `{}`, false, false},
		"lease query":               {"query", "kube-node-lease/lease/edge-2", `null`, true, false},
		"lease insert":              {"insert", "kube-node-lease/lease/edge-2", `{}`, true, false},
		"lease update":              {"update", "kube-node-lease/lease/edge-2", `{}`, true, false},
		"lease elsewhere":           {"insert", "kube-system/lease/edge-1", `{}`, true, false},
		"pod patch":                 {"patch", "shop/podpatch/web-1", `"{\"metadata\":{\"uid\":\"u2\"}}"`, true, false},
		"pod patch without uid":     {"patch", "shop/podpatch/web-1", `"{}"`, true, false},
		"pod delete":                {"delete", "shop/pod/web-1", `{"preconditions":{"uid":"u2"}}`, false, false},
		"pod delete without uid":    {"delete", "shop/pod/web-1", `{}`, false, false},
		"pod status":                {"update", "shop/podstatus/web-1", `{"UID":"u2","Status":{}}`, false, false},
		"pod that is no mirror":     {"insert", "shop/pod/m", `{"metadata":{"name":"m"},"spec":{"nodeName":"edge-1"}}`, true, false},
		"mirror on another node":    {"insert", "shop/pod/m", `{` + mirror + `,"spec":{"nodeName":"edge-2"}}`, true, false},
		"mirror with an account":    {"insert", "shop/pod/m", `{` + mirror + `,"spec":{"nodeName":"edge-1","serviceAccountName":"admin"}}`, true, false},
		"mirror with a secret":      {"insert", "shop/pod/m", `{` + mirror + `,"spec":{"nodeName":"edge-1","volumes":[{"name":"v","secret":{"secretName":"theirs"}}]}}`, true, false},
		"mirror with a claim":       {"insert", "shop/pod/m", `{` + mirror + `,"spec":{"nodeName":"edge-1","volumes":[{"name":"v","persistentVolumeClaim":{"claimName":"data"}}]}}`, true, false},
		"mirror with a token":       {"insert", "shop/pod/m", `{` + mirror + `,"spec":{"nodeName":"edge-1","volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"p"}}]}}]}}`, true, false},
		"mirror with an owner":      {"insert", "shop/pod/m", `{"metadata":{"name":"m","annotations":{"kubernetes.io/config.mirror":"h"},"ownerReferences":[{"kind":"ReplicaSet","name":"rs"}]},"spec":{"nodeName":"edge-1"}}`, true, false},
		"configmap":                 {"query", "shop/configmap/theirs", `null`, false, false},
		"secret":                    {"query", "shop/secret/theirs", `null`, false, false},
		"secret that nobody uses":   {"query", "shop/secret/nobodys", `null`, false, false},
		"token of their pod":        {"query", "shop/serviceaccounttoken/admin", token(`{"kind":"Pod","apiVersion":"v1","name":"web-1","uid":"u2"}`), false, false},
		"token of another account":  {"query", "shop/serviceaccounttoken/admin", token(`{"kind":"Pod","apiVersion":"v1","name":"web-0","uid":"u1"}`), false, false},
		"token of another pod uid":  {"query", "shop/serviceaccounttoken/default", token(`{"kind":"Pod","apiVersion":"v1","name":"web-0","uid":"u9"}`), false, false},
		"token bound to a secret":   {"query", "shop/serviceaccounttoken/default", token(`{"kind":"Secret","apiVersion":"v1","name":"s"}`), false, false},
		"token bound to nothing":    {"query", "shop/serviceaccounttoken/admin", token(`null`), false, false},
		"claim":                     {"query", "shop/persistentvolumeclaim/data", `null`, false, false},
		"volume":                    {"query", "null/persistentvolume/pv-2", `null`, false, false},
		"volume without claim":      {"query", "null/persistentvolume/free", `null`, false, false},
		"attachment":                {"query", "default/volumeattachment/va-2", `null`, false, false},
		"certificate request":       {"query", "default/certificatesigningrequest/csr-2", `null`, false, false},
		"certificate for another":   {"insert", "default/certificatesigningrequest/c", csrContent(t, "edge-2", "system:nodes"), true, false},
		"certificate of a group":    {"insert", "default/certificatesigningrequest/c", csrContent(t, "edge-1", "system:masters"), true, false},
		"event of another host":     {"insert", "shop/event/x", `{"metadata":{"name":"x","namespace":"shop"},"source":{"host":"edge-2"}}`, false, true},
		"event about another node":  {"insert", "shop/event/x", `{"metadata":{"name":"x","namespace":"shop"},"involvedObject":{"kind":"Node","name":"edge-2"}}`, false, true},
		"event patch, another host": {"patch", "shop/event/e", `{"event":{"metadata":{"name":"e","namespace":"shop"},"source":{"host":"edge-2"}},"patchData":"{}"}`, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, stop := start(t, Config{}, objects...)
				defer stop()
				answers := wires(b.ask("edge-1", req(tc.op, tc.resource, tc.content)))
				switch {
				case tc.silent:
					mustEqual(t, "answers", answers, []string{})
				case len(answers) != 1:
					t.Errorf("%d answers: %v", len(answers), answers)
				case tc.asObject && !strings.Contains(answers[0], `"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure"`),
					tc.asObject && !strings.Contains(answers[0], `"reason":"Forbidden"`),
					!tc.asObject && !strings.Contains(answers[0], `"operation":"error"`),
					!strings.Contains(answers[0], "forbidden"):
					t.Errorf("answer is %s", answers[0])
				}
				for _, call := range b.api.took() {
					if !strings.HasPrefix(call, "GET ") {
						t.Errorf("kube-apiserver was asked to %s", call)
					}
				}
				for _, call := range b.engine.took() {
					t.Errorf("delivery was told %s", call)
				}
			})
		})
	}
}

func TestForeignNodeOfTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plane := node("control-plane", "node-role.kubernetes.io/control-plane")
		plane.Status.NodeInfo.KubeletVersion = "v1.37.2"
		b, stop := start(t, Config{}, plane)
		defer stop()
		answers := wires(b.ask("control-plane", req("insert", "null/node/control-plane", `{"metadata":{"name":"control-plane"}}`)))
		if len(answers) != 1 || !strings.Contains(answers[0], `"code":403`) {
			t.Errorf("answers are %v", answers)
		}
		mustEqual(t, "calls", b.api.took(), []string{"POST /api/v1/nodes", "GET /api/v1/nodes/control-plane"})
	})
}

func TestLostRoleLabelsComeBack(t *testing.T) {
	for name, tc := range map[string]struct {
		node *corev1.Node
		want string
	}{
		"of an EdgeCore":           {kubelet(node("edge-1"), "v1.32.10-kubeedge-v1.23.1"), `{"node-role.kubernetes.io/agent":"","node-role.kubernetes.io/edge":""}`},
		"edge label with a value":  {kubelet(labelled(node("edge-1", agentLabel), edgeLabel, "yes"), "v1.30.0"), `{"node-role.kubernetes.io/edge":""}`},
		"agent label of a served":  {kubelet(node("edge-1", edgeLabel), "v1.30.0"), `{"node-role.kubernetes.io/agent":""}`},
		"nothing, cache is behind": {edgeNode("edge-1"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, stop := start(t, Config{})
				defer stop()
				b.api.put(tc.node)
				b.ask("edge-1", req("insert", "null/node/edge-1", `{"metadata":{"name":"edge-1"}}`))
				want := []string{"POST /api/v1/nodes", "GET /api/v1/nodes/edge-1"}
				if tc.want != "" {
					want = append(want, `PATCH /api/v1/nodes/edge-1 merge-patch {"metadata":{"labels":`+tc.want+`,"annotations":{"cloudcore":"192.0.2.1"}}}`)
				}
				mustEqual(t, "calls", b.api.took(), want)
			})
		})
	}
}

func kubelet(n *corev1.Node, version string) *corev1.Node {
	n.Status.NodeInfo.KubeletVersion = version
	return n
}

func labelled(n *corev1.Node, key, value string) *corev1.Node {
	n.Labels[key] = value
	return n
}

func TestCertificateRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{})
		defer stop()
		answers := wires(b.ask("edge-1", req("insert", "default/certificatesigningrequest/csr-abc", csrContent(t, "edge-1", "system:nodes"))))
		if len(answers) != 1 || !strings.Contains(answers[0], `{"Object":{"kind":"CertificateSigningRequest","apiVersion":"certificates.k8s.io/v1","metadata":{"name":"csr-abc","uid":"uid-1001","resourceVersion":"1001"}`) ||
			!strings.HasSuffix(answers[0], `"Err":null}}`) {
			t.Errorf("row 20: answers are %v", answers)
		}
		answers = wires(b.ask("edge-1", req("query", "default/certificatesigningrequest/csr-abc", `null`)))
		if len(answers) != 1 || !strings.Contains(answers[0], `"content":{"kind":"CertificateSigningRequest","apiVersion":"certificates.k8s.io/v1","metadata":{"name":"csr-abc"`) ||
			!strings.Contains(answers[0], `"resourceversion":"1001"`) {
			t.Errorf("row 21: answers are %v", answers)
		}
		answers = wires(b.ask("edge-1", req("insert", "default/certificatesigningrequest/csr-abc", csrContent(t, "edge-1", "system:nodes"))))
		if len(answers) != 1 || !strings.Contains(answers[0], `"reason":"AlreadyExists"`) {
			t.Errorf("row 20, exists: answers are %v", answers)
		}
		mustEqual(t, "row 21, none", wires(b.ask("edge-1", req("query", "default/certificatesigningrequest/none", `null`))),
			[]string{failure("default/certificatesigningrequest/none", `"certificatesigningrequests.certificates.k8s.io \"none\" not found"`)})
		for _, bad := range []string{`{"spec":{"request":"bm90IHBlbQ==","signerName":"kubernetes.io/kubelet-serving"}}`, `{"spec":{"signerName":"example.com/x"}}`,
			`{"spec":{"request":"LS0tLS1CRUdJTiBYLS0tLS0KQUFBQQotLS0tLUVORCBYLS0tLS0K","signerName":"kubernetes.io/kubelet-serving"}}`} {
			answers = wires(b.ask("edge-1", req("insert", "default/certificatesigningrequest/bad", bad)))
			if len(answers) != 1 || !strings.Contains(answers[0], `"reason":"Forbidden"`) {
				t.Errorf("request %s: answers are %v", bad, answers)
			}
		}
	})
}

func kubeletCSR(t testing.TB, node, group string) certificatesv1.CertificateSigningRequestSpec {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{group}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return certificatesv1.CertificateSigningRequestSpec{
		Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
		SignerName: certificatesv1.KubeletServingSignerName,
	}
}

func csrContent(t testing.TB, node, group string) string {
	t.Helper()
	spec := kubeletCSR(t, node, group)
	return `{"metadata":{"name":"csr-abc"},"spec":{"request":"` + base64.StdEncoding.EncodeToString(spec.Request) +
		`","signerName":"kubernetes.io/kubelet-serving","usages":["digital signature","server auth"]},"status":{}}`
}
