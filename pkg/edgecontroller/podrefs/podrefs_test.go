package podrefs

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestVisitConfig(t *testing.T) {
	yes, no := true, false
	local := &corev1.LocalObjectReference{Name: "s"}
	named := corev1.LocalObjectReference{Name: "c"}
	volume := func(s corev1.VolumeSource) corev1.PodSpec {
		return corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: s}}}
	}
	env := []corev1.EnvVar{
		{Name: "plain", Value: "x"},
		{ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
		{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: named}}},
		{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: *local, Optional: &yes}}},
	}
	from := []corev1.EnvFromSource{
		{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: named, Optional: &no}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: *local}},
	}
	inEnv := []Config{{Name: "c"}, {Secret: true, Name: "s"}, {Name: "c"}, {Secret: true, Name: "s", Optional: true}}
	secret := []Config{{Secret: true, Name: "s"}}

	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		want []Config
	}{
		"nothing":     {spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}},
		"pull secret": {corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{*local}}, secret},
		"configmap volume": {volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: named, Optional: &yes}}),
			[]Config{{Name: "c", Optional: true}}},
		"secret volume": {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}), secret},
		"projected volume of a service account": {volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: *local, Optional: &yes}},
		}}}), []Config{{Name: "kube-root-ca.crt"}, {Secret: true, Name: "s", Optional: true}}},
		"csi":             {volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: local}}), secret},
		"csi without":     {volume(corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{}}), nil},
		"iscsi":           {volume(corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{SecretRef: local}}), secret},
		"rbd":             {volume(corev1.VolumeSource{RBD: &corev1.RBDVolumeSource{SecretRef: local}}), secret},
		"cinder":          {volume(corev1.VolumeSource{Cinder: &corev1.CinderVolumeSource{SecretRef: local}}), secret},
		"cephfs":          {volume(corev1.VolumeSource{CephFS: &corev1.CephFSVolumeSource{SecretRef: local}}), secret},
		"flex":            {volume(corev1.VolumeSource{FlexVolume: &corev1.FlexVolumeSource{SecretRef: local}}), secret},
		"scaleio":         {volume(corev1.VolumeSource{ScaleIO: &corev1.ScaleIOVolumeSource{SecretRef: local}}), secret},
		"storageos":       {volume(corev1.VolumeSource{StorageOS: &corev1.StorageOSVolumeSource{SecretRef: local}}), secret},
		"azure file":      {volume(corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: "s"}}), secret},
		"containers":      {corev1.PodSpec{Containers: []corev1.Container{{EnvFrom: from, Env: env}}}, inEnv},
		"init containers": {corev1.PodSpec{InitContainers: []corev1.Container{{EnvFrom: from, Env: env}}}, inEnv},
		"ephemeral containers": {corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{
			{EphemeralContainerCommon: corev1.EphemeralContainerCommon{EnvFrom: from, Env: env}}}}, inEnv},
		"names that can't exist": {corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{}, {Name: "a/b"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Config
			VisitConfig(&corev1.Pod{Spec: tc.spec}, func(c Config) { got = append(got, c) })
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestVolumeSourcesAreKnown fails when Kubernetes adds a volume source with a field that looks like a secret, so that
// nobody forgets it here.
func TestVolumeSourcesAreKnown(t *testing.T) {
	known := map[string]bool{"ConfigMap": true, "Secret": true, "Projected": true, "CSI": true, "ISCSI": true, "RBD": true,
		"Cinder": true, "CephFS": true, "FlexVolume": true, "ScaleIO": true, "StorageOS": true, "AzureFile": true}
	source := reflect.TypeFor[corev1.VolumeSource]()
	for f := range source.Fields() {
		if f.Type.Kind() != reflect.Pointer {
			continue
		}
		for inner := range f.Type.Elem().Fields() {
			n := inner.Name
			if (n == "SecretRef" || n == "SecretName" || n == "NodePublishSecretRef") && !known[f.Name] {
				t.Errorf("volume source %s has the field %s and is not visited", f.Name, n)
			}
		}
	}
}

func TestClaims(t *testing.T) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web-0"}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{
		{Name: "a", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "b", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{}}},
	}}}
	if got, want := slices.Collect(Claims(pod)), []string{"data", "web-0-scratch"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for first := range Claims(pod) {
		if first != "data" {
			t.Errorf("first claim is %s", first)
		}
		break
	}
}

func TestVolumeSecrets(t *testing.T) {
	other := "other"
	ref := func(name string) *corev1.SecretReference { return &corev1.SecretReference{Namespace: "n", Name: name} }
	for name, tc := range map[string]struct {
		source corev1.PersistentVolumeSource
		want   []string
	}{
		"csi": {corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{NodeStageSecretRef: ref("stage"),
			NodePublishSecretRef: ref("publish"), NodeExpandSecretRef: ref("expand"), ControllerPublishSecretRef: ref("controller")}},
			[]string{"n/stage", "n/publish", "n/expand"}},
		"no secret":  {corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{}}, nil},
		"rbd":        {corev1.PersistentVolumeSource{RBD: &corev1.RBDPersistentVolumeSource{SecretRef: &corev1.SecretReference{Name: "s"}}}, []string{"claims/s"}},
		"iscsi":      {corev1.PersistentVolumeSource{ISCSI: &corev1.ISCSIPersistentVolumeSource{SecretRef: ref("s")}}, []string{"n/s"}},
		"cinder":     {corev1.PersistentVolumeSource{Cinder: &corev1.CinderPersistentVolumeSource{SecretRef: ref("s")}}, []string{"n/s"}},
		"cephfs":     {corev1.PersistentVolumeSource{CephFS: &corev1.CephFSPersistentVolumeSource{SecretRef: ref("s")}}, []string{"n/s"}},
		"flex":       {corev1.PersistentVolumeSource{FlexVolume: &corev1.FlexPersistentVolumeSource{SecretRef: ref("s")}}, []string{"n/s"}},
		"scaleio":    {corev1.PersistentVolumeSource{ScaleIO: &corev1.ScaleIOPersistentVolumeSource{SecretRef: ref("s")}}, []string{"n/s"}},
		"azure file": {corev1.PersistentVolumeSource{AzureFile: &corev1.AzureFilePersistentVolumeSource{SecretName: "s", SecretNamespace: &other}}, []string{"other/s"}},
		"storageos":  {corev1.PersistentVolumeSource{StorageOS: &corev1.StorageOSPersistentVolumeSource{SecretRef: &corev1.ObjectReference{Namespace: "n", Name: "s"}}}, []string{"n/s"}},
	} {
		t.Run(name, func(t *testing.T) {
			pv := &corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: tc.source,
				ClaimRef: &corev1.ObjectReference{Namespace: "claims", Name: "c"}}}
			var got []string
			for ns, n := range VolumeSecrets(pv) {
				got = append(got, fmt.Sprintf("%s/%s", ns, n))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}
