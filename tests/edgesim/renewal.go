package edgesim

import (
	"math"
	"time"

	"k8s.io/klog/v2"
)

// planRenewal puts the renewal of the certificate at a random moment between 70 and 90 % of its life (spec 02 §8).
func (c *core) planRenewal() {
	id := c.n.Identity()
	if id == nil {
		return
	}
	from, to := id.Validity()
	share := 0.7 + 0.2*c.random.Float64()
	at := from.Add(time.Duration(float64(to.Sub(from)) * share))
	c.agenda.add(at, func() { c.renew(0) })
}

// renew asks for a new certificate off the core, which must not wait. After a failure it is tried again after 2, 4, 8
// and 16 s, then every 32 s (spec 02 §8).
func (c *core) renew(failures int) {
	ctx := c.life
	c.renewing.Go(func() {
		err := c.n.Renew(ctx)
		if err != nil {
			klog.FromContext(ctx).V(2).Info("Renewal failed", "err", err)
		}
		c.n.do(ctx, func() {
			switch {
			case c.off:
			case err != nil:
				wait := float64(c.n.opts.Timing.RenewRetry) * math.Pow(2, float64(min(failures, 4)))
				c.after(time.Duration(wait), func() { c.renew(failures + 1) })
			default:
				c.planRenewal()
			}
		})
	})
}
