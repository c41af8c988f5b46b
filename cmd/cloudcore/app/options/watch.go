package options

import (
	"context"
	"crypto/sha256"
	"io/fs"
	"os"
	"time"

	"k8s.io/klog/v2"
)

// watchPeriod is how often the file is looked at; kubelet itself takes up to a minute to bring
// a changed ConfigMap into a pod.
const watchPeriod = 15 * time.Second

// WatchFile logs once for each new content of the configuration file, since nothing of it takes
// effect before a restart, and says whether the new content would be accepted. It returns when
// ctx ends.
func (s *Startup) WatchFile(ctx context.Context) {
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	seen, stamp := s.digest, fileStamp{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		info, err := os.Stat(s.File)
		if err != nil || stampOf(info) == stamp {
			continue // a file that is gone for a moment is being replaced
		}
		stamp = stampOf(info)
		data, err := readFile(s.File)
		if err != nil {
			continue
		}
		if digest := sha256.Sum256(data); digest != seen {
			seen = digest
			s.report(ctx, data)
		}
	}
}

func (s *Startup) report(ctx context.Context, data []byte) {
	logger := klog.FromContext(ctx)
	if sha256.Sum256(data) == s.digest {
		logger.Info("Configuration file is again the one in use", "file", s.File)
		return
	}
	cfg, _, err := Decode(data)
	if err == nil {
		err = cfg.Validate().ToAggregate()
	}
	if err != nil {
		logger.Error(err, "Configuration file changed and is not valid, cloudcore would not start with it", "file", s.File)
		return
	}
	logger.Info("Configuration file changed, restart cloudcore to apply it", "file", s.File)
}

// fileStamp tells cheaply that a file is still the one that was read.
type fileStamp struct {
	modified time.Time
	size     int64
}

func stampOf(info fs.FileInfo) fileStamp { return fileStamp{info.ModTime(), info.Size()} }
