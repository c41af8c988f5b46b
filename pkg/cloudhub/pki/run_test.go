package pki

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// running starts Run in the bubble of the test and stops it at its end.
func running(t *testing.T, authorities ...*Authority) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, len(authorities))
	for _, a := range authorities {
		go func() { done <- a.Run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range authorities {
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
	})
}

// tokenLeft is how long the stored token lasts.
func tokenLeft(t *testing.T, a *Authority, api *fake.Clientset) time.Duration {
	t.Helper()
	claims, err := a.ca.Load().verifyToken(string(getSecret(t, api, "tokensecret").Data["tokendata"]), time.Now())
	if err != nil {
		t.Fatalf("stored token at %s: %v", time.Now(), err)
	}
	return time.Until(claims.Expires)
}

// outage makes every call fail while it is true.
func outage(api *fake.Clientset) *atomic.Bool {
	var away atomic.Bool
	api.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		if away.Load() {
			return true, nil, errors.New("connection refused")
		}
		return false, nil, nil
	})
	return &away
}

func TestTokenIsReplacedAtHalfOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		a := loaded(t, testConfig(), api)
		running(t, a)
		first := getSecret(t, api, "tokensecret").Data["tokendata"]
		before := writes(api)
		time.Sleep(11 * time.Hour)
		if !bytes.Equal(getSecret(t, api, "tokensecret").Data["tokendata"], first) || writes(api) != before {
			t.Error("token was replaced before half of its life")
		}
		for range 7 * 24 {
			time.Sleep(time.Hour)
			if left := tokenLeft(t, a, api); left < 12*time.Hour-2*time.Minute {
				t.Fatalf("token has %s left, want at least half of its life", left)
			}
		}
		if got := writes(api) - before; got < 14 || got > 15 {
			t.Errorf("got %d tokens in a week and half a day, want one each 12 h", got)
		}
	})
}

func TestSpec02Check20_TokenRefreshSurvivesOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		registry := prometheus.NewRegistry()
		a, err := New(testConfig(), api, registry)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		away := outage(api)
		running(t, a)
		time.Sleep(11*time.Hour + 59*time.Minute)
		away.Store(true)
		calls := len(api.Actions())
		time.Sleep(11 * time.Hour) // over the time of the refresh, close to the end of the token
		attempts := len(api.Actions()) - calls
		if attempts < 500 || attempts > 800 {
			t.Errorf("got %d attempts in eleven hours, want about one a minute", attempts)
		}
		failures := a.metrics.refreshFailures.WithLabelValues(subjectToken)
		if got := testutil.ToFloat64(failures); int(got) != attempts {
			t.Errorf("failure metric is %v, want %d", got, attempts)
		}
		away.Store(false)
		time.Sleep(2 * time.Minute)
		if left := tokenLeft(t, a, api); left < 23*time.Hour {
			t.Errorf("after the outage the token has %s left, want a fresh one", left)
		}
		if got, want := testutil.ToFloat64(a.metrics.tokenExpiry), float64(time.Now().Add(tokenLeft(t, a, api)).Unix()); got != want {
			t.Errorf("expiry metric is %v, want %v", got, want)
		}
	})
}

func TestShortOutageIsRetriedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		a := loaded(t, testConfig(), api)
		away := outage(api)
		running(t, a)
		if err := api.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("secrets"), "kubeedge", "tokensecret"); err != nil {
			t.Fatal(err)
		}
		away.Store(true)
		time.Sleep(70 * time.Second) // one look, and the first failures
		away.Store(false)
		time.Sleep(30 * time.Second)
		if left := tokenLeft(t, a, api); left < 23*time.Hour {
			t.Errorf("token has %s left", left)
		}
	})
}

func TestReplicasDoNotFightOverTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		replicas := make([]*Authority, 3)
		for i := range replicas {
			replicas[i] = loaded(t, testConfig(), api)
		}
		if n := writes(api); n != 3 {
			t.Fatalf("got %d writes at the start of three replicas, want one a secret", n)
		}
		running(t, replicas...)
		time.Sleep(60*time.Hour + 30*time.Minute)
		if n := writes(api) - 3; n != 5 {
			t.Errorf("got %d new tokens in sixty hours, want 5", n)
		}
	})
}

func TestServingCertificateIsRenewedWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newAPI(t)
		maker := loaded(t, testConfig(), base)
		key := newKey(t)
		names := maker.serving.Load().cert.Leaf
		short := *names
		short.NotBefore, short.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(99*time.Hour) // due after 89 h
		cert := signAs(t, maker, key, &short)
		api := newAPI(t, secretOf("casecret", getSecret(t, base, "casecret").Data),
			secretOf("cloudcoresecret", map[string][]byte{"cloudcoredata": cert.Raw, "cloudcorekeydata": mustDER(storedDER(key))}))
		replicas := []*Authority{loaded(t, testConfig(), api), loaded(t, testConfig(), api)}
		running(t, replicas...)
		inUse := func(i int) []byte { return replicas[i].serving.Load().cert.Certificate[0] }

		time.Sleep(88 * time.Hour)
		if !bytes.Equal(inUse(0), cert.Raw) {
			t.Error("certificate was replaced too early")
		}
		time.Sleep(90 * time.Minute)
		if bytes.Equal(inUse(0), cert.Raw) {
			t.Error("certificate was not replaced before its end")
		}
		if stored := getSecret(t, api, "cloudcoresecret").Data["cloudcoredata"]; !bytes.Equal(inUse(0), stored) || !bytes.Equal(inUse(1), stored) {
			t.Error("replicas do not agree with the secret on the new certificate")
		}
	})
}

func storedDER(key any) ([]byte, error) {
	stored, err := storedForm(key)
	return stored.der, err
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		a := loaded(t, testConfig(), api)
		for range 2 { // and may be called again
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			if err := a.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
			cancel()
		}
	})
}
