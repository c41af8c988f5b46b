package pki

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"
)

func TestSpec02Check01_SecretsExistAfterLoad(t *testing.T) {
	api := newAPI(t)
	loaded(t, testConfig(), api)

	if _, err := api.CoreV1().Namespaces().Get(t.Context(), "kubeedge", metav1.GetOptions{}); err != nil {
		t.Errorf("namespace: %v", err)
	}
	ca := getSecret(t, api, "casecret")
	if ca.Type != corev1.SecretTypeOpaque {
		t.Errorf("casecret has type %s, want Opaque", ca.Type)
	}
	caCert, err := x509.ParseCertificate(ca.Data["cadata"])
	if err != nil {
		t.Fatalf("cadata: %v", err)
	}
	caKey, err := x509.ParseECPrivateKey(ca.Data["cakeydata"])
	if err != nil {
		t.Fatalf("cakeydata is not SEC1: %v", err)
	}
	if !caKey.PublicKey.Equal(caCert.PublicKey) || !caCert.IsCA || caCert.Subject.String() != "CN=KubeEdge" || caCert.SerialNumber.Int64() != 1024 {
		t.Errorf("CA certificate: subject %s, serial %s, CA %v", caCert.Subject, caCert.SerialNumber, caCert.IsCA)
	}

	server := getSecret(t, api, "cloudcoresecret")
	serverCert, err := x509.ParseCertificate(server.Data["cloudcoredata"])
	if err != nil {
		t.Fatalf("cloudcoredata: %v", err)
	}
	if _, err := x509.ParseECPrivateKey(server.Data["cloudcorekeydata"]); err != nil {
		t.Errorf("cloudcorekeydata is not SEC1: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(caCert)
	if _, err := serverCert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1"}); err != nil {
		t.Errorf("server certificate: %v", err)
	}
	if serverCert.Subject.String() != "CN=KubeEdge,O=KubeEdge" || len(serverCert.DNSNames) != 0 {
		t.Errorf("server certificate: subject %s, DNS names %q", serverCert.Subject, serverCert.DNSNames)
	}
	if early := time.Since(serverCert.NotBefore); early < 30*time.Minute || early > time.Hour+time.Minute {
		t.Errorf("server certificate is back-dated by %s, want up to an hour", early)
	}

	parts := strings.Split(string(getSecret(t, api, "tokensecret").Data["tokendata"]), ".")
	if len(parts) != 4 {
		t.Fatalf("token has %d parts, want 4", len(parts))
	}
	hash := sha256.Sum256(ca.Data["cadata"])
	if parts[0] != hex.EncodeToString(hash[:]) {
		t.Errorf("first token part is not the hash of the CA")
	}
	mac := hmac.New(sha256.New, ca.Data["cakeydata"])
	mac.Write([]byte(parts[1] + "." + parts[2]))
	if base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) != parts[3] {
		t.Errorf("token is not signed with HS256 and cakeydata")
	}
	if header, _ := base64.RawURLEncoding.DecodeString(parts[1]); string(header) != `{"alg":"HS256","typ":"JWT"}` {
		t.Errorf("token header is %s", header)
	}
	var claims map[string]json.Number
	payload, _ := base64.RawURLEncoding.DecodeString(parts[2])
	if err := json.Unmarshal(payload, &claims); err != nil || len(claims) != 1 {
		t.Fatalf("token claims are %s", payload)
	}
	if exp, err := claims["exp"].Int64(); err != nil || time.Until(time.Unix(exp, 0)).Round(time.Hour) != 24*time.Hour {
		t.Errorf("token claims are %s, want an integer exp in 24 h", payload)
	}
}

func TestSpec02Check03_ReferenceSecretsReusedUnchanged(t *testing.T) {
	stored := referenceSecrets(t, "192.0.2.10")
	api := newAPI(t, stored[0], stored[1], stored[2], namespaceOf("kubeedge"))
	cfg := testConfig()
	cfg.AdvertiseAddresses = []string{"192.0.2.10"}
	cfg.DNSNames = []string{""}
	a := loaded(t, cfg, api)

	if n := writes(api); n != 0 {
		t.Errorf("got %d writes, want none", n)
	}
	for _, want := range stored {
		if got := getSecret(t, api, want.Name); !maps.EqualFunc(got.Data, want.Data, bytes.Equal) {
			t.Errorf("secret %s changed", want.Name)
		}
	}
	served, err := a.GetCertificate(nil)
	if err != nil || !bytes.Equal(served.Certificate[0], stored[1].Data["cloudcoredata"]) {
		t.Errorf("served certificate is not the stored one (err %v)", err)
	}
	_, bearer, _ := strings.Cut(string(stored[2].Data["tokendata"]), ".")
	if _, err := a.VerifyToken(bearer); err != nil {
		t.Errorf("token of the reference: %v", err)
	}
}

func TestSpec02Check04_ReplicasAgreeOnOneCA(t *testing.T) {
	api := newAPI(t)
	const replicas = 8
	var group sync.WaitGroup
	authorities := make([]*Authority, replicas)
	errs := make([]error, replicas)
	for i := range replicas {
		authorities[i] = newAuthority(t, testConfig(), api)
		group.Go(func() { errs[i] = authorities[i].Load(t.Context()) })
	}
	group.Wait()

	want := getSecret(t, api, "casecret").Data["cadata"]
	_, bearer, _ := strings.Cut(string(getSecret(t, api, "tokensecret").Data["tokendata"]), ".")
	for i, a := range authorities {
		if errs[i] != nil {
			t.Fatalf("replica %d: %v", i, errs[i])
		}
		if got, _ := a.CACertificate(); !bytes.Equal(got, want) {
			t.Errorf("replica %d serves another CA than the stored one", i)
		}
		if _, err := a.VerifyToken(bearer); err != nil {
			t.Errorf("replica %d refuses the stored token: %v", i, err)
		}
		cert, _ := issue(t, a, "edge-1")
		if _, err := authorities[(i+1)%replicas].VerifyPeer([]*x509.Certificate{cert}); err != nil {
			t.Errorf("certificate of replica %d is refused by the next one: %v", i, err)
		}
	}
}

// The other replica comes first between our read and our write, whether we create or update.
func TestLostRacesUseTheStoredValue(t *testing.T) {
	winner := referenceSecrets(t, "127.0.0.1")
	tests := []struct {
		name    string
		objects []runtime.Object
		verb    string
	}{
		{"create", []runtime.Object{namespaceOf("kubeedge")}, "create"},
		{"fill in an empty secret", []runtime.Object{secretOf("casecret", nil), secretOf("cloudcoresecret", nil), secretOf("tokensecret", nil)}, "update"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t, tt.objects...)
			raced := map[string]bool{}
			api.PrependReactor(tt.verb, "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
				secret := action.(clienttesting.CreateAction).GetObject().(*corev1.Secret)
				if raced[secret.Name] {
					return false, nil, nil
				}
				raced[secret.Name] = true
				for _, s := range winner {
					if s.Name != secret.Name {
						continue
					}
					other := s.DeepCopy()
					other.ResourceVersion = "50"
					if tt.verb == "create" {
						return false, nil, api.Tracker().Create(action.GetResource(), other, other.Namespace)
					}
					return false, nil, api.Tracker().Update(action.GetResource(), other, other.Namespace)
				}
				return false, nil, nil
			})
			a := loaded(t, testConfig(), api)
			if len(raced) != 3 {
				t.Fatalf("raced for %v, want all three secrets", raced)
			}
			if got, _ := a.CACertificate(); !bytes.Equal(got, winner[0].Data["cadata"]) {
				t.Error("the CA in use is not the one that was stored first")
			}
			for _, want := range winner {
				if got := getSecret(t, api, want.Name); !maps.EqualFunc(got.Data, want.Data, bytes.Equal) {
					t.Errorf("secret %s of the winner was overwritten", want.Name)
				}
			}
		})
	}
}

func TestEndlessRaceGivesUp(t *testing.T) {
	api := newAPI(t)
	api.PrependReactor("create", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewAlreadyExists(action.GetResource().GroupResource(), "casecret")
	})
	err := newAuthority(t, testConfig(), api).Load(t.Context())
	if err == nil || !strings.Contains(err.Error(), "secret kubeedge/casecret") {
		t.Errorf("got %v, want an error about the secret", err)
	}
}

func TestWritesTouchOnlyDataKeys(t *testing.T) {
	stored := referenceSecrets(t, "192.0.2.1") // another address: the serving certificate must change
	stored[1].Labels = map[string]string{"owner": "ops"}
	stored[1].Annotations = map[string]string{"note": "keep"}
	stored[1].Data["extra"] = []byte("stays")
	api := newAPI(t, stored[0], stored[1], stored[2])
	loaded(t, testConfig(), api)

	got := getSecret(t, api, "cloudcoresecret")
	if bytes.Equal(got.Data["cloudcoredata"], stored[1].Data["cloudcoredata"]) {
		t.Error("serving certificate was not replaced")
	}
	if got.Labels["owner"] != "ops" || got.Annotations["note"] != "keep" || string(got.Data["extra"]) != "stays" {
		t.Errorf("labels %v, annotations %v, data keys lost", got.Labels, got.Annotations)
	}
	if n := writes(api); n != 1 {
		t.Errorf("got %d writes, want 1", n)
	}
}

func TestDamagedCAIsAnErrorAndStays(t *testing.T) {
	good := referenceSecrets(t, "127.0.0.1")[0].Data
	other := referenceSecrets(t, "127.0.0.1")
	tests := []struct {
		name string
		data map[string][]byte
		want string
	}{
		{"certificate without key", map[string][]byte{"cadata": good["cadata"]}, "cakeydata is missing"},
		{"key without certificate", map[string][]byte{"cakeydata": good["cakeydata"]}, "cadata is missing"},
		{"garbled certificate", map[string][]byte{"cadata": []byte("x"), "cakeydata": good["cakeydata"]}, "data key cadata"},
		{"garbled key", map[string][]byte{"cadata": good["cadata"], "cakeydata": []byte("x")}, "data key cakeydata"},
		{"foreign key", map[string][]byte{"cadata": good["cadata"], "cakeydata": other[0].Data["cakeydata"]}, "does not belong"},
		{"not a CA", map[string][]byte{"cadata": other[1].Data["cloudcoredata"], "cakeydata": other[1].Data["cloudcorekeydata"]}, "not one of a certificate authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t, secretOf("casecret", tt.data))
			err := newAuthority(t, testConfig(), api).Load(t.Context())
			if err == nil || !strings.Contains(err.Error(), "secret kubeedge/casecret") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error that names the secret and %q", err, tt.want)
			}
			if n := writes(api); n != 0 {
				t.Errorf("got %d writes, want none", n)
			}
		})
	}
}

func TestNamespaceAccess(t *testing.T) {
	gr := schema.GroupResource{Resource: "namespaces"}
	tests := []struct {
		name   string
		verb   string
		answer error
		ok     bool
	}{
		{"another replica creates it", "create", apierrors.NewAlreadyExists(gr, "kubeedge"), true},
		{"not readable", "get", apierrors.NewForbidden(gr, "kubeedge", errors.New("no")), true},
		{"apiserver away", "get", errors.New("connection refused"), false},
		{"not creatable", "create", apierrors.NewForbidden(gr, "kubeedge", errors.New("no")), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			api := newAPI(t)
			api.PrependReactor(tt.verb, "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, tt.answer
			})
			err := newAuthority(t, testConfig(), api).Load(t.Context())
			if (err == nil) != tt.ok {
				t.Errorf("Load: got %v, want success %v", err, tt.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "namespace kubeedge") {
				t.Errorf("error %q does not name the namespace", err)
			}
		})
	}
}

func TestLoadMayBeRepeatedAfterAnOutage(t *testing.T) {
	api := newAPI(t)
	away := true
	api.PrependReactor("*", "secrets", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if away {
			return true, nil, errors.New("connection refused")
		}
		return false, nil, nil
	})
	a := newAuthority(t, testConfig(), api)
	if err := a.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "kubeedge/casecret") {
		t.Fatalf("Load during the outage: got %v, want an error that names the secret", err)
	}
	away = false
	if err := a.Load(t.Context()); err != nil {
		t.Fatalf("Load after the outage: %v", err)
	}
}
