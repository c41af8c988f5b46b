package upstream

import (
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// row is one exchange with an edge: its request on the wire, what it gets back on the wire, and what kube-apiserver
// sees of it.
type row struct {
	name    string
	objects []metav1.Object // in kube-apiserver and in the caches
	live    []metav1.Object // in kube-apiserver only
	request string
	want    []string
	calls   []string
	engine  []string
}

// req writes a message as EdgeCore does (spec 04 §2.2).
func req(op, resource, content string) string {
	return `{"header":{"msg_id":"q","timestamp":1767000000000},"route":{"source":"edged","group":"meta","operation":"` + op +
		`","resource":"` + resource + `"},"content":` + content + `}`
}

func response(resource, content string) string { return versioned("", resource, content) }

func versioned(version, resource, content string) string {
	if version != "" {
		version = `,"resourceversion":"` + version + `"`
	}
	return `{"header":{"msg_id":"-","parent_msg_id":"q","timestamp":0` + version + `},"route":{"source":"edgecontroller","group":"resource",` +
		`"operation":"response","resource":"` + resource + `"},"content":` + content + `}`
}

func failure(resource, text string) string {
	return `{"header":{"msg_id":"-","parent_msg_id":"q","timestamp":0},"route":{"source":"edgecontroller","group":"resource",` +
		`"operation":"error","resource":"` + resource + `"},"content":` + text + `}`
}

func push(resource, content string) string {
	return `{"header":{"msg_id":"-","timestamp":0},"route":{"source":"edgecontroller","group":"resource",` +
		`"operation":"delete","resource":"` + resource + `"},"content":` + content + `}`
}

const (
	emptyNodeInfo = `"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"",` +
		`"kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}`
	leaseSpec = `"spec":{"holderIdentity":"edge-1","leaseDurationSeconds":40,"renewTime":"2026-01-01T00:00:10.000000Z"}`
)

func lease(version string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-node-lease", Name: "edge-1", UID: "1c", ResourceVersion: version}}
}

func notFoundStatus(message, details string) string {
	return `{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":` + message + `,"reason":"NotFound","details":` + details + `,"code":404}}}`
}

// TestRows has the rows of spec 04 §2 for a node edge-1.
func TestRows(t *testing.T) {
	deleting := pod("shop", "web-0", "edge-1", "77aa")
	deleting.DeletionTimestamp = &metav1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	started := pod("shop", "web-0", "edge-1", "77aa")
	started.Spec.InitContainers = []corev1.Container{{Name: "i1"}, {Name: "i2"}}
	started.Status = corev1.PodStatus{StartTime: &metav1.Time{Time: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}, Conditions: []corev1.PodCondition{
		{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC)}}}
	user := pod("shop", "web-0", "edge-1", "77aa")
	user.Spec.ServiceAccountName = "bot"
	user.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "app"}}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "tls"}}},
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "extra"}, Optional: new(true)}},
	}
	user.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "data", UID: "pvc", ResourceVersion: "800"},
		Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-1"}}
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-1", UID: "pv", ResourceVersion: "801"}, Spec: corev1.PersistentVolumeSpec{
		ClaimRef: &corev1.ObjectReference{Namespace: "shop", Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h",
			NodeStageSecretRef: &corev1.SecretReference{Namespace: "storage", Name: "stage"}}}}}
	attachment := &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: "csi-8f", UID: "va", ResourceVersion: "802"},
		Spec: storagev1.VolumeAttachmentSpec{NodeName: "edge-1", Attacher: "d"}}
	configMap := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app", UID: "5e", ResourceVersion: "1600",
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}}, Data: map[string]string{"k": "v"}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "tls", UID: "aa", ResourceVersion: "2100"},
		Data: map[string][]byte{"k": []byte("v")}, Type: corev1.SecretTypeOpaque}

	for _, tc := range []row{
		{
			name: "1 node insert",
			request: req("insert", "null/node/edge-1", `{"metadata":{"name":"edge-1","creationTimestamp":null,"labels":{"kubernetes.io/hostname":"edge-1",`+
				`"node-role.kubernetes.io/edge":"","node-role.kubernetes.io/agent":""},"annotations":{"a":"b"}},"spec":{},"status":{"nodeInfo":{"kubeletVersion":"v1.32.10-kubeedge-v1.23.1"}}}`),
			want: []string{response("null/node/edge-1", `{"Object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"edge-1","uid":"uid-1001","resourceVersion":"1001",`+
				`"labels":{"kubernetes.io/hostname":"edge-1","node-role.kubernetes.io/agent":"","node-role.kubernetes.io/edge":""},"annotations":{"a":"b","cloudcore":"192.0.2.1"}},"spec":{},`+
				`"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"",`+
				`"kubeletVersion":"v1.32.10-kubeedge-v1.23.1","kubeProxyVersion":"","operatingSystem":"","architecture":""}}},"Err":null}`)},
			calls:  []string{"POST /api/v1/nodes"},
			engine: []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 uid-1001@1001", "resync edge-1"},
		},
		{
			name: "1 node insert, exists", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("insert", "default/node/edge-1", `{"metadata":{"name":"edge-1"}}`),
			want: []string{response("default/node/edge-1", `{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":"nodes \"edge-1\" already exists",`+
				`"reason":"AlreadyExists","details":{"name":"edge-1","kind":"nodes"},"code":409}}}`)},
			calls:  []string{"POST /api/v1/nodes"},
			engine: []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 @", "resync edge-1"},
		},
		{
			name: "1 node insert, made before by hand", objects: []metav1.Object{node("edge-1")},
			request: req("insert", "null/node/edge-1", `{"metadata":{"name":"edge-1"}}`),
			want: []string{response("null/node/edge-1", `{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":"nodes \"edge-1\" already exists",`+
				`"reason":"AlreadyExists","details":{"name":"edge-1","kind":"nodes"},"code":409}}}`)},
			calls: []string{"POST /api/v1/nodes", "GET /api/v1/nodes/edge-1", `PATCH /api/v1/nodes/edge-1 merge-patch {"metadata":{"labels":{"node-role.kubernetes.io/agent":"",` +
				`"node-role.kubernetes.io/edge":""},"annotations":{"cloudcore":"192.0.2.1"}}}`},
			engine: []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 @", "resync edge-1"},
		},
		{
			name: "2 nodepatch", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("patch", "null/nodepatch/edge-1", `"{\"status\":{\"conditions\":[{\"status\":\"True\",\"type\":\"Ready\"}]}}"`),
			want: []string{versioned("1001", "null/nodepatch/edge-1", `{"Object":{"kind":"Node","apiVersion":"v1","metadata":{"name":"edge-1","uid":"node-edge-1","resourceVersion":"1001",`+
				`"labels":{"node-role.kubernetes.io/agent":"","node-role.kubernetes.io/edge":""}},"spec":{},"status":{"conditions":[{"type":"Ready","status":"True","lastHeartbeatTime":null,`+
				`"lastTransitionTime":null}],`+emptyNodeInfo+`}},"Err":null}`)},
			calls:  []string{`PATCH /api/v1/nodes/edge-1/status strategic-merge-patch {"status":{"conditions":[{"status":"True","type":"Ready"}]}}`},
			engine: []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 node-edge-1@1001"},
		},
		{
			name:    "2 nodepatch, no node",
			request: req("patch", "null/nodepatch/edge-1", `"{}"`),
			want:    []string{response("null/nodepatch/edge-1", notFoundStatus(`"nodes \"edge-1\" not found"`, `{"name":"edge-1","kind":"nodes"}`))},
			calls:   []string{`PATCH /api/v1/nodes/edge-1/status strategic-merge-patch {}`},
			engine:  []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 @"},
		},
		{
			name: "3 node query", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("query", "default/node/edge-1", `null`),
			want: []string{versioned("500", "default/node/edge-1", `{"kind":"Node","apiVersion":"v1","metadata":{"name":"edge-1","uid":"node-edge-1","resourceVersion":"500",`+
				`"labels":{"node-role.kubernetes.io/agent":"","node-role.kubernetes.io/edge":""}},"spec":{},"status":{`+emptyNodeInfo+`}}`)},
		},
		{
			name:    "3 node query, none",
			request: req("query", "default/node/edge-1", `null`),
			want:    []string{failure("default/node/edge-1", `"nodes \"edge-1\" not found"`)},
			calls:   []string{"GET /api/v1/nodes/edge-1"},
		},
		{
			name: "4 node update", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("update", "default/node/edge-1", `{"metadata":{"name":"edge-1","labels":{"zone":"a","node-role.kubernetes.io/edge":""},"annotations":{"x":"y","cloudcore":"203.0.113.9"}}}`),
			want:    []string{versioned("1001", "default/node/edge-1", `"OK"`)},
			calls:   []string{`PATCH /api/v1/nodes/edge-1 merge-patch {"metadata":{"labels":{"zone":"a"},"annotations":{"x":"y"}}}`},
		},
		{
			name: "4 node update of nothing new", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("update", "null/node/edge-1", `{"metadata":{"name":"edge-1","labels":{"node-role.kubernetes.io/edge":""}}}`),
			want:    []string{versioned("500", "null/node/edge-1", `"OK"`)},
		},
		{
			name:    "5 nodestatus insert",
			request: req("insert", "default/nodestatus/edge-1", `{"metadata":{"name":"edge-1","labels":{"node-role.kubernetes.io/edge":""}},"spec":{},"status":{}}`),
			want:    []string{response("default/node/edge-1", `"OK"`)},
			calls:   []string{"POST /api/v1/nodes"},
			engine:  []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 @", "resync edge-1"},
		},
		{
			name: "5 nodestatus insert, exists", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("insert", "default/nodestatus/edge-1", `{"metadata":{"name":"edge-1"}}`),
			want:    []string{response("default/node/edge-1", `"OK"`)},
			calls:   []string{"POST /api/v1/nodes"},
			engine:  []string{"hold edge-1 null/node/edge-1", "release null/node/edge-1 @", "resync edge-1"},
		},
		{
			name: "6 nodestatus update", objects: []metav1.Object{edgeNode("edge-1")},
			request: req("update", "default/nodestatus/edge-1", `{"UID":"38796d14","Status":{"capacity":{"cpu":"8"},"conditions":[{"type":"Ready","status":"True",`+
				`"lastHeartbeatTime":"2026-01-01T00:00:00Z","lastTransitionTime":"2026-01-01T00:00:00Z"}]},"ExtendResources":null}`),
			want:  []string{versioned("1001", "default/node/edge-1", `"OK"`)},
			calls: []string{"GET /api/v1/nodes/edge-1", "PUT /api/v1/nodes/edge-1/status"},
		},
		{
			name:    "6 nodestatus update, no node",
			request: req("update", "default/nodestatus/edge-1", `{"UID":"38796d14","Status":{}}`),
			want:    []string{failure("default/nodestatus/edge-1", `"nodes \"edge-1\" not found"`)},
			calls:   []string{"GET /api/v1/nodes/edge-1"},
		},
		{
			name: "7 lease query", live: []metav1.Object{lease("1400")},
			request: req("query", "kube-node-lease/lease/edge-1", `null`),
			want: []string{response("kube-node-lease/lease/edge-1", `{"Object":{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"edge-1","namespace":"kube-node-lease",`+
				`"uid":"1c","resourceVersion":"1400"},"spec":{}},"Err":null}`)},
			calls: []string{"GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1"},
		},
		{
			name:    "7 lease query, none",
			request: req("query", "kube-node-lease/lease/edge-1", `null`),
			want: []string{response("kube-node-lease/lease/edge-1", notFoundStatus(`"leases.coordination.k8s.io \"edge-1\" not found"`,
				`{"name":"edge-1","group":"coordination.k8s.io","kind":"leases"}`))},
			calls: []string{"GET /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1"},
		},
		{
			name:    "8 lease insert",
			request: req("insert", "kube-node-lease/lease/edge-1", `{"metadata":{"name":"edge-1","namespace":"kube-node-lease","creationTimestamp":null,"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"edge-1","uid":"9b"}]},`+leaseSpec+`}`),
			want: []string{response("kube-node-lease/lease/edge-1", `{"Object":{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"edge-1","namespace":"kube-node-lease",`+
				`"uid":"uid-1001","resourceVersion":"1001","ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"edge-1","uid":"9b"}]},`+leaseSpec+`},"Err":null}`)},
			calls: []string{"POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"},
		},
		{
			name: "9 lease update", live: []metav1.Object{lease("1400")},
			request: req("update", "kube-node-lease/lease/edge-1", `{"metadata":{"name":"edge-1","namespace":"kube-node-lease","uid":"1c","resourceVersion":"1400"},`+leaseSpec+`}`),
			want: []string{response("kube-node-lease/lease/edge-1", `{"Object":{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"edge-1","namespace":"kube-node-lease",`+
				`"uid":"1c","resourceVersion":"1001"},`+leaseSpec+`},"Err":null}`)},
			calls: []string{"PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1"},
		},
		{
			name: "9 lease update, conflict", live: []metav1.Object{lease("1500")},
			request: req("update", "kube-node-lease/lease/edge-1", `{"metadata":{"name":"edge-1","namespace":"kube-node-lease","uid":"1c","resourceVersion":"1400"},`+leaseSpec+`}`),
			want: []string{response("kube-node-lease/lease/edge-1", `{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on leases.coordination.k8s.io \"edge-1\": `+
				`the object has been modified","reason":"Conflict","details":{"name":"edge-1","group":"coordination.k8s.io","kind":"leases"},"code":409}}}`)},
			calls: []string{"PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/edge-1"},
		},
		{
			name: "10 podpatch", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "77aa")},
			request: req("patch", "shop/podpatch/web-0", `"{\"metadata\":{\"uid\":\"77aa\"},\"status\":{\"phase\":\"Running\"}}"`),
			want: []string{versioned("1001", "shop/podpatch/web-0", `{"Object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"shop","uid":"77aa","resourceVersion":"1001"},`+
				`"spec":{"containers":[{"name":"c","image":"nginx","resources":{}}],"nodeName":"edge-1"},"status":{"phase":"Running"}},"Err":null}`)},
			calls:  []string{`PATCH /api/v1/namespaces/shop/pods/web-0/status strategic-merge-patch {"metadata":{"uid":"77aa"},"status":{"phase":"Running"}}`},
			engine: []string{"hold edge-1 shop/pod/web-0", "release shop/pod/web-0 77aa@1001"},
		},
		{
			name: "10 podpatch without a uid", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "77aa")},
			request: req("patch", "shop/podpatch/web-0", `"{\"status\":{\"message\":\"held\"}}"`),
			want: []string{versioned("1001", "shop/podpatch/web-0", `{"Object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"shop","uid":"77aa","resourceVersion":"1001"},`+
				`"spec":{"containers":[{"name":"c","image":"nginx","resources":{}}],"nodeName":"edge-1"},"status":{"message":"held"}},"Err":null}`)},
			calls:  []string{`PATCH /api/v1/namespaces/shop/pods/web-0/status strategic-merge-patch {"status":{"message":"held"}}`},
			engine: []string{"hold edge-1 shop/pod/web-0", "release shop/pod/web-0 77aa@1001"},
		},
		{
			name:    "10 podpatch of a pod that vanished",
			request: req("patch", "shop/podpatch/web-0", `"{\"metadata\":{\"uid\":\"77aa\"},\"status\":{}}"`),
			want: []string{
				response("shop/podpatch/web-0", notFoundStatus(`"pods \"web-0\" not found"`, `{"name":"web-0","kind":"pods"}`)),
				push("shop/pod/web-0", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"shop","uid":"77aa"}}`),
			},
			calls: []string{"GET /api/v1/namespaces/shop/pods/web-0"},
		},
		{
			name: "10 podpatch of a predecessor", objects: []metav1.Object{pod("shop", "web-0", "edge-2", "new")},
			request: req("patch", "shop/podpatch/web-0", `"{\"metadata\":{\"uid\":\"77aa\"},\"status\":{}}"`),
			want: []string{
				response("shop/podpatch/web-0", `{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":"Operation cannot be fulfilled on pods \"web-0\": the pod has another uid than 77aa",`+
					`"reason":"Conflict","details":{"name":"web-0","kind":"pods"},"code":409}}}`),
				push("shop/pod/web-0", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"shop","uid":"77aa"}}`),
			},
			calls: []string{"GET /api/v1/namespaces/shop/pods/web-0", "GET /api/v1/namespaces/shop/pods/web-0"},
		},
		{
			name: "11 pod insert", // the mirror of a static pod
			request: req("insert", "kube-system/pod/proxy-edge-1", `{"metadata":{"name":"proxy-edge-1","namespace":"kube-system","annotations":{"kubernetes.io/config.mirror":"h","kubernetes.io/config.source":"file"},`+
				`"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"edge-1","uid":"9b","controller":true}]},"spec":{"nodeName":"edge-1","containers":[{"name":"p","image":"x"}]},"status":{"phase":"Pending"}}`),
			want: []string{response("kube-system/pod/proxy-edge-1", `{"Object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"proxy-edge-1","namespace":"kube-system","uid":"uid-1001","resourceVersion":"1001",`+
				`"annotations":{"kubernetes.io/config.mirror":"h","kubernetes.io/config.source":"file"},"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"edge-1","uid":"9b","controller":true}]},`+
				`"spec":{"containers":[{"name":"p","image":"x","resources":{}}],"nodeName":"edge-1"},"status":{"phase":"Pending"}},"Err":null}`)},
			calls:  []string{"POST /api/v1/namespaces/kube-system/pods"},
			engine: []string{"hold edge-1 kube-system/pod/proxy-edge-1", "release kube-system/pod/proxy-edge-1 uid-1001@1001"},
		},
		{
			name: "11 pod insert, exists", objects: []metav1.Object{pod("kube-system", "proxy-edge-1", "edge-1", "m")},
			request: req("insert", "kube-system/pod/proxy-edge-1", `{"metadata":{"name":"proxy-edge-1","annotations":{"kubernetes.io/config.mirror":"h"}},"spec":{"nodeName":"edge-1"}}`),
			want: []string{response("kube-system/pod/proxy-edge-1", `{"Object":{},"Err":{"ErrStatus":{"metadata":{},"status":"Failure","message":"pods \"proxy-edge-1\" already exists",`+
				`"reason":"AlreadyExists","details":{"name":"proxy-edge-1","kind":"pods"},"code":409}}}`)},
			calls:  []string{"POST /api/v1/namespaces/kube-system/pods"},
			engine: []string{"hold edge-1 kube-system/pod/proxy-edge-1", "release kube-system/pod/proxy-edge-1 @"},
		},
		{
			name: "12 pod delete", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "77aa")},
			request: req("delete", "shop/pod/web-0", `{"gracePeriodSeconds":0,"preconditions":{"uid":"77aa"}}`),
			want:    []string{response("shop/pod/web-0", `"OK"`)},
			calls:   []string{`DELETE /api/v1/namespaces/shop/pods/web-0 {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"77aa"}}`},
		},
		{
			name:    "12 pod delete, none",
			request: req("delete", "shop/pod/web-0", `{"gracePeriodSeconds":0,"preconditions":{"uid":"77aa"}}`),
			want:    []string{response("shop/pod/web-0", `"OK"`)},
			calls:   []string{"GET /api/v1/namespaces/shop/pods/web-0"},
		},
		{
			name: "12 pod delete of a predecessor", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "new")},
			request: req("delete", "shop/pod/web-0", `{"gracePeriodSeconds":0,"preconditions":{"uid":"77aa"}}`),
			want:    []string{response("shop/pod/web-0", `"OK"`)},
			calls:   []string{"GET /api/v1/namespaces/shop/pods/web-0"},
		},
		{
			name: "12 pod delete by an old edge", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "77aa-bb")},
			request: req("delete", "shop/pod/web-0", `"77aa-bb"`),
			want:    []string{response("shop/pod/web-0", `"OK"`)},
			calls:   []string{`DELETE /api/v1/namespaces/shop/pods/web-0 {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"77aa-bb"}}`},
		},
		{
			name: "12 pod delete by an old edge without a uid", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "77aa")},
			request: req("delete", "shop/pod/web-0", `""`),
			want:    []string{response("shop/pod/web-0", `"OK"`)},
			calls:   []string{`DELETE /api/v1/namespaces/shop/pods/web-0 {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"77aa"}}`},
		},
		{
			name: "13 podstatus update", objects: []metav1.Object{started},
			request: req("update", "shop/podstatus/web-0", `{"UID":"77aa","Name":"web-0","Status":{"phase":"Running"}}`),
			want:    []string{response("shop/podstatus/web-0", `"OK"`)},
			calls:   []string{"GET /api/v1/namespaces/shop/pods/web-0", "PUT /api/v1/namespaces/shop/pods/web-0/status"},
		},
		{
			name: "13 podstatus update of many", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "77aa")},
			request: req("update", "shop/podstatus", `[{"UID":"77aa","Name":"web-0","Status":{"phase":"Running"}},{"UID":"88","Name":"gone","Status":{}}]`),
			want: []string{
				response("shop/podstatus", `"OK"`),
				push("shop/pod/gone", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"gone","namespace":"shop","uid":"88"}}`),
			},
			calls: []string{"GET /api/v1/namespaces/shop/pods/web-0", "PUT /api/v1/namespaces/shop/pods/web-0/status", "GET /api/v1/namespaces/shop/pods/gone"},
		},
		{
			name: "13 podstatus update of a predecessor", objects: []metav1.Object{pod("shop", "web-0", "edge-1", "new")},
			request: req("update", "shop/podstatus/web-0", `{"UID":"77aa","Name":"web-0","Status":{"phase":"Running"}}`),
			want: []string{
				response("shop/podstatus/web-0", `"OK"`),
				push("shop/pod/web-0", `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-0","namespace":"shop","uid":"77aa"}}`),
			},
			calls: []string{"GET /api/v1/namespaces/shop/pods/web-0"},
		},
		{
			name: "13 podstatus update, the last of a deleted pod", objects: []metav1.Object{deleting},
			request: req("update", "shop/podstatus/web-0", `{"UID":"77aa","Name":"web-0","Status":{"phase":"Succeeded"}}`),
			want:    []string{response("shop/podstatus/web-0", `"OK"`)},
			calls: []string{"GET /api/v1/namespaces/shop/pods/web-0", "PUT /api/v1/namespaces/shop/pods/web-0/status",
				`DELETE /api/v1/namespaces/shop/pods/web-0 {"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"preconditions":{"uid":"77aa"}}`},
		},
		{
			name: "14 configmap query", objects: []metav1.Object{user, configMap},
			request: req("query", "shop/configmap/app", `null`),
			want: []string{versioned("1600", "shop/configmap/app", `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"app","namespace":"shop","uid":"5e","resourceVersion":"1600"},`+
				`"data":{"k":"v"}}`)},
			calls: []string{"GET /api/v1/namespaces/shop/configmaps/app"},
		},
		{
			name: "14 configmap query, needed and missing", objects: []metav1.Object{user},
			request: req("query", "shop/configmap/app", `null`),
			want:    []string{failure("shop/configmap/app", `"configmaps \"app\" not found"`)},
			calls:   []string{"GET /api/v1/namespaces/shop/configmaps/app"},
		},
		{
			name: "14 configmap query, optional and missing", objects: []metav1.Object{user},
			request: req("query", "shop/configmap/extra", `null`),
			want:    []string{response("shop/configmap/extra", notFoundStatus(`"configmaps \"extra\" not found"`, `{"name":"extra","kind":"configmaps"}`))},
			calls:   []string{"GET /api/v1/namespaces/shop/configmaps/extra"},
		},
		{
			name: "15 secret query", objects: []metav1.Object{user, secret},
			request: req("query", "shop/secret/tls", `null`),
			want: []string{versioned("2100", "shop/secret/tls", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"tls","namespace":"shop","uid":"aa","resourceVersion":"2100"},`+
				`"data":{"k":"dg=="},"type":"Opaque"}`)},
			calls: []string{"GET /api/v1/namespaces/shop/secrets/tls"},
		},
		{
			name: "15 secret query of a pod that the cache lacks", live: []metav1.Object{user, secret},
			request: req("query", "shop/secret/tls", `null`),
			want: []string{versioned("2100", "shop/secret/tls", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"tls","namespace":"shop","uid":"aa","resourceVersion":"2100"},`+
				`"data":{"k":"dg=="},"type":"Opaque"}`)},
			calls: []string{"GET /api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1", "GET /api/v1/namespaces/shop/secrets/tls"},
		},
		{
			name: "15 secret query for a volume", objects: []metav1.Object{user}, live: []metav1.Object{claim, volume,
				&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "storage", Name: "stage", UID: "st", ResourceVersion: "1"}}},
			request: req("query", "storage/secret/stage", `null`),
			want:    []string{versioned("1", "storage/secret/stage", `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"stage","namespace":"storage","uid":"st","resourceVersion":"1"}}`)},
			calls: []string{"GET /api/v1/pods?fieldSelector=spec.nodeName%3Dedge-1", "GET /api/v1/namespaces/shop/persistentvolumeclaims/data",
				"GET /api/v1/persistentvolumes/pv-1", "GET /api/v1/namespaces/storage/secrets/stage"},
		},
		{
			name: "16 serviceaccounttoken query", objects: []metav1.Object{user},
			request: req("query", "shop/serviceaccounttoken/bot", `{"metadata":{"creationTimestamp":null},"spec":{"audiences":null,"expirationSeconds":3607,"boundObjectRef":{"kind":"Pod","apiVersion":"v1",`+
				`"name":"web-0","uid":"77aa"}},"status":{"token":"","expirationTimestamp":null}}`),
			want: []string{response("shop/serviceaccounttoken/bot", `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","metadata":{"name":"bot","namespace":"shop","uid":"t"},"spec":{"audiences":null,"expirationSeconds":3607,`+
				`"boundObjectRef":{"kind":"Pod","apiVersion":"v1","name":"web-0","uid":"77aa"}},"status":{"token":"tok","expirationTimestamp":"2026-01-01T01:00:07Z"}}`)},
			calls: []string{"POST /api/v1/namespaces/shop/serviceaccounts/bot/token"},
		},
		{
			name: "17 persistentvolume query", objects: []metav1.Object{user}, live: []metav1.Object{volume},
			request: req("query", "null/persistentvolume/pv-1", `null`),
			want: []string{versioned("801", "null/persistentvolume/pv-1", `{"kind":"PersistentVolume","apiVersion":"v1","metadata":{"name":"pv-1","uid":"pv","resourceVersion":"801"},"spec":{"csi":{"driver":"d",`+
				`"volumeHandle":"h","nodeStageSecretRef":{"name":"stage","namespace":"storage"}},"claimRef":{"namespace":"shop","name":"data"}},"status":{}}`)},
			calls: []string{"GET /api/v1/persistentvolumes/pv-1"},
		},
		{
			name:    "17 persistentvolume query, none",
			request: req("query", "default/persistentvolume/pv-1", `null`),
			want:    []string{failure("default/persistentvolume/pv-1", `"persistentvolumes \"pv-1\" not found"`)},
			calls:   []string{"GET /api/v1/persistentvolumes/pv-1"},
		},
		{
			name: "18 persistentvolumeclaim query", objects: []metav1.Object{user}, live: []metav1.Object{claim},
			request: req("query", "shop/persistentvolumeclaim/data", `null`),
			want: []string{versioned("800", "shop/persistentvolumeclaim/data", `{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"name":"data","namespace":"shop","uid":"pvc","resourceVersion":"800"},`+
				`"spec":{"resources":{},"volumeName":"pv-1"},"status":{}}`)},
			calls: []string{"GET /api/v1/namespaces/shop/persistentvolumeclaims/data"},
		},
		{
			name: "18 persistentvolumeclaim query, none", objects: []metav1.Object{user},
			request: req("query", "shop/persistentvolumeclaim/data", `null`),
			want:    []string{failure("shop/persistentvolumeclaim/data", `"persistentvolumeclaims \"data\" not found"`)},
			calls:   []string{"GET /api/v1/namespaces/shop/persistentvolumeclaims/data"},
		},
		{
			name: "19 volumeattachment query", live: []metav1.Object{attachment},
			request: req("query", "default/volumeattachment/csi-8f", `null`),
			want: []string{versioned("802", "default/volumeattachment/csi-8f", `{"kind":"VolumeAttachment","apiVersion":"storage.k8s.io/v1","metadata":{"name":"csi-8f","uid":"va","resourceVersion":"802"},`+
				`"spec":{"attacher":"d","source":{},"nodeName":"edge-1"},"status":{"attached":false}}`)},
			calls: []string{"GET /apis/storage.k8s.io/v1/volumeattachments/csi-8f"},
		},
		{
			name:    "22 event insert",
			request: req("insert", "shop/event/web-0.18a", `{"metadata":{"name":"web-0.18a","namespace":"shop"},"involvedObject":{"kind":"Pod","name":"web-0"},"source":{"component":"kubelet","host":"edge-1"},"count":1}`),
			calls:   []string{"POST /api/v1/namespaces/shop/events"},
		},
		{
			name: "23 event update", live: []metav1.Object{&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0.18a", ResourceVersion: "9"}}},
			request: req("update", "shop/event/web-0.18a", `{"metadata":{"name":"web-0.18a","namespace":"shop","resourceVersion":"9"},"reason":"Started","count":2}`),
			calls:   []string{"PUT /api/v1/namespaces/shop/events/web-0.18a"},
		},
		{
			name: "24 event patch", live: []metav1.Object{&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-0.18a", ResourceVersion: "9"}}},
			request: req("patch", "shop/event/web-0.18a", `{"event":{"metadata":{"name":"web-0.18a","namespace":"shop"}},"patchData":"{\"count\":3}"}`),
			calls:   []string{`PATCH /api/v1/namespaces/shop/events/web-0.18a strategic-merge-patch {"count":3}`},
		},
		{
			name:    "24 event patch of one that expired",
			request: req("patch", "shop/event/web-0.18a", `{"event":{"metadata":{"name":"web-0.18a","namespace":"shop"},"involvedObject":{"kind":"Pod","name":"web-0"}},"patchData":"{\"count\":3}"}`),
			calls:   []string{`PATCH /api/v1/namespaces/shop/events/web-0.18a strategic-merge-patch {"count":3}`, "POST /api/v1/namespaces/shop/events"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) { runRow(t, tc) })
	}
}

func runRow(t *testing.T, tc row) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := start(t, Config{}, tc.objects...)
		defer stop()
		for _, o := range tc.live {
			b.api.put(o)
		}
		mustEqual(t, "answers", wires(b.ask("edge-1", tc.request)), orNone(tc.want))
		mustEqual(t, "calls", b.api.took(), tc.calls)
		mustEqual(t, "delivery", b.engine.took(), tc.engine)
	})
}

func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
