// Package kpa records what Knative's pod autoscaler decides. It is a test because only a test has
// a clock (testing/synctest) on which hours pass at once; the code under it is Knative's own, as it runs.
package kpa

import (
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/apis/autoscaling/v1alpha1"
	"knative.dev/serving/pkg/autoscaler/metrics"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

var (
	out = flag.String("out", "", "the file to write")
	of  = flag.String("of", "", "the module and its version, as the file names them")
)

const (
	seconds = 2400
	tick    = 2 // seconds between two decisions
)

// Settings are named as in the Python that is held against them; times are in seconds.
type Settings struct {
	Target          float64 `json:"target"`
	Stable          int     `json:"stable"`
	Panic           int     `json:"panic"`
	PanicThreshold  float64 `json:"panic_threshold"`
	MaxScaleUp      float64 `json:"max_scale_up"`
	MaxScaleDown    float64 `json:"max_scale_down"`
	ScaleDownDelay  int     `json:"scale_down_delay"`
	ActivationScale int     `json:"activation_scale"`
	Reachable       bool    `json:"reachable"`
	Weighted        bool    `json:"weighted"`
}

// Series is one revision's life: a sample each second and a decision each tick.
type Series struct {
	Name     string     `json:"name"`
	Settings Settings   `json:"settings"`
	Began    int64      `json:"began"`   // Unix seconds
	Offset   float64    `json:"offset"`  // seconds from a sample to the decision after it
	Samples  []*float64 `json:"samples"` // at began + 1, + 2, ...; null where nothing was scraped
	Ready    []int      `json:"ready"`   // ready pods at each decision; the first is what it began with
	Desired  []*int     `json:"desired"` // at began + offset, + tick, ...; null where there was none
}

func defaults() Settings {
	return Settings{Target: 7, Stable: 60, Panic: 6, PanicThreshold: 2, MaxScaleUp: 1000,
		MaxScaleDown: 2, Reachable: true}
}

func changed(change func(*Settings)) Settings {
	settings := defaults()
	change(&settings)
	return settings
}

type pods struct{ ready int }

func (p *pods) ReadyCount() (int, error)    { return p.ready, nil }
func (p *pods) NotReadyCount() (int, error) { return 0, nil }

type scraper struct {
	series *Series
	next   int
}

// Scrape gives the next sample; an empty one is how Knative's scraper says that it got none.
func (s *scraper) Scrape(time.Duration) (metrics.Stat, error) {
	var stat metrics.Stat
	if s.next < len(s.series.Samples) && s.series.Samples[s.next] != nil {
		stat.PodName = "all"
		stat.AverageConcurrentRequests = *s.series.Samples[s.next]
	}
	s.next++
	return stat, nil
}

func metric(settings Settings) *v1alpha1.Metric {
	algorithm := autoscaling.MetricAggregationAlgorithmLinear
	if settings.Weighted {
		algorithm = autoscaling.MetricAggregationAlgorithmWeightedExponential
	}
	return &v1alpha1.Metric{
		ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "revision", Annotations: map[string]string{
			autoscaling.MetricAggregationAlgorithmKey: algorithm,
		}},
		Spec: v1alpha1.MetricSpec{
			StableWindow: time.Duration(settings.Stable) * time.Second,
			PanicWindow:  time.Duration(settings.Panic) * time.Second,
			ScrapeTarget: "golden",
		},
	}
}

func spec(settings Settings) *scaling.DeciderSpec {
	return &scaling.DeciderSpec{
		MaxScaleUpRate:   settings.MaxScaleUp,
		MaxScaleDownRate: settings.MaxScaleDown,
		ScalingMetric:    autoscaling.Concurrency,
		TargetValue:      settings.Target,
		TotalValue:       settings.Target / 0.7,
		PanicThreshold:   settings.PanicThreshold,
		StableWindow:     time.Duration(settings.Stable) * time.Second,
		ScaleDownDelay:   time.Duration(settings.ScaleDownDelay) * time.Second,
		ActivationScale:  int32(settings.ActivationScale),
		Reachable:        settings.Reachable,
	}
}

// run lets the collector scrape each second and the autoscaler decide each tick. Pods become ready
// lag ticks after they were asked for; some are lost now and then.
func run(series *Series, random *rand.Rand, lag int) {
	logger := zap.NewNop().Sugar()
	key := types.NamespacedName{Namespace: "golden", Name: "revision"}
	samples := &scraper{series: series}
	collector := metrics.NewMetricCollector(
		func(*v1alpha1.Metric, *zap.SugaredLogger) (metrics.StatsScraper, error) { return samples, nil }, logger)
	if err := collector.CreateOrUpdate(metric(series.Settings)); err != nil {
		panic(err)
	}
	defer collector.Delete(key.Namespace, key.Name)

	counter := &pods{ready: series.Ready[0]}
	series.Began = time.Now().Unix()
	scaler := scaling.New(*attribute.EmptySet(), noop.NewMeterProvider(), key.Namespace, key.Name,
		collector, counter, spec(series.Settings))
	time.Sleep(time.Duration(series.Offset * float64(time.Second)))
	asked := make([]int, lag, seconds)
	for i := range asked {
		asked[i] = counter.ready
	}
	for step := 0; step*tick < seconds; step++ {
		if step > 0 {
			counter.ready = asked[step]
			if random.IntN(60) == 0 {
				counter.ready = max(0, counter.ready-1-random.IntN(3))
			}
			series.Ready = append(series.Ready, counter.ready)
		}
		synctest.Wait()
		result := scaler.Scale(logger, time.Now())
		wanted := asked[len(asked)-1]
		if result.ScaleValid {
			wanted = int(result.DesiredPodCount)
			series.Desired = append(series.Desired, &wanted)
		} else {
			series.Desired = append(series.Desired, nil)
		}
		asked = append(asked, wanted)
		time.Sleep(tick * time.Second)
	}
	scaler.OnDelete()
}

type shape func(second int, random *rand.Rand) *float64

func value(v float64) *float64 {
	v = math.Round(max(0, v)*100) / 100
	return &v
}

func walk(start, step float64) shape {
	level := start
	return func(_ int, random *rand.Rand) *float64 {
		level = math.Abs(level + random.NormFloat64()*step)
		return value(level)
	}
}

func bursts(base, height float64) shape {
	left := 0
	return func(_ int, random *rand.Rand) *float64 {
		if left--; left < 0 && random.IntN(150) == 0 {
			left = 5 + random.IntN(60)
		}
		level := base * (0.8 + 0.4*random.Float64())
		if left > 0 {
			level += height * random.Float64()
		}
		return value(level)
	}
}

func steps(levels ...float64) shape {
	return func(second int, random *rand.Rand) *float64 {
		return value(levels[second/200%len(levels)] * (0.95 + 0.1*random.Float64()))
	}
}

// missing takes samples away from another shape: one in `odd`, and spells of up to `spell` seconds.
func missing(of shape, odd, spell int) shape {
	left := 0
	return func(second int, random *rand.Rand) *float64 {
		sample := of(second, random)
		if left--; left < 0 && random.IntN(300) == 0 {
			left = random.IntN(spell)
		}
		if left > 0 || random.IntN(odd) == 0 {
			return nil
		}
		return sample
	}
}

func sawtooth(period int, height float64) shape {
	return func(second int, _ *rand.Rand) *float64 {
		return value(height * float64(second%period) / float64(period))
	}
}

func TestGolden(t *testing.T) {
	if *out == "" {
		t.Skip("no -out")
	}
	cases := []struct {
		name     string
		settings Settings
		shape    shape
		ready    int
		lag      int
		offset   float64
	}{
		{"walk", defaults(), walk(30, 2), 3, 5, 0.5},
		{"bursts", defaults(), bursts(10, 200), 2, 8, 1.5},
		{"steps", defaults(), steps(5, 60, 0, 140, 20), 1, 10, 1.9},
		{"cold start", defaults(), steps(0, 0, 30, 0), 0, 15, 0.1},
		{"begins alone", defaults(), steps(0, 80, 6, 0), 1, 6, 0.5},
		{"holes", defaults(), missing(walk(60, 4), 4, 150), 12, 5, 0.5},
		{"zero and holes", defaults(), missing(steps(0, 40, 0, 0, 90), 3, 250), 0, 5, 1.5},
		{"sawtooth", defaults(), sawtooth(170, 120), 1, 22, 0.5},
		{"small target", changed(func(s *Settings) { s.Target = 0.35 }), walk(1, 0.1), 2, 3, 0.5},
		{"exact multiples", changed(func(s *Settings) { s.Target = 5 }),
			func(second int, _ *rand.Rand) *float64 { return value(float64(5 * (1 + second/150%6))) }, 1, 2, 0.5},
		{"long window", changed(func(s *Settings) { s.Stable, s.Panic = 600, 60 }), bursts(30, 150), 5, 20, 0.5},
		{"short window", changed(func(s *Settings) { s.Stable, s.Panic = 6, 1 }), walk(40, 8), 6, 2, 1.5},
		{"odd window", changed(func(s *Settings) { s.Stable, s.Panic = 45, 5 }), missing(bursts(20, 90), 6, 50), 4, 6, 0.5},
		{"scale-down delay", changed(func(s *Settings) { s.ScaleDownDelay = 120 }), bursts(10, 120), 3, 6, 0.5},
		{"odd delay", changed(func(s *Settings) { s.ScaleDownDelay = 35 }), walk(50, 6), 3, 6, 0.5},
		{"tight rates", changed(func(s *Settings) { s.MaxScaleUp, s.MaxScaleDown = 1.1, 1.2 }), steps(10, 200, 1), 1, 4, 1.5},
		{"rare panic", changed(func(s *Settings) { s.PanicThreshold = 10 }), bursts(10, 300), 2, 12, 0.5},
		{"activation scale", changed(func(s *Settings) { s.ActivationScale = 4 }), steps(0, 3, 80, 0), 0, 5, 0.5},
		{"unreachable", changed(func(s *Settings) { s.Reachable = false; s.ScaleDownDelay = 60; s.Stable, s.Panic = 6, 1 }), steps(90, 10, 0), 9, 5, 0.5},
		{"weighted", changed(func(s *Settings) { s.Weighted = true }), walk(50, 4), 5, 6, 0.5},
		{"weighted holes", changed(func(s *Settings) { s.Weighted, s.Stable, s.Panic = true, 30, 3 }),
			missing(bursts(25, 120), 4, 45), 4, 6, 1.5},
	}
	var all []*Series
	decisions := 0
	for number, entry := range cases {
		random := rand.New(rand.NewPCG(5, uint64(number)))
		series := &Series{Name: entry.name, Settings: entry.settings, Offset: entry.offset, Ready: []int{entry.ready}}
		for second := range seconds {
			series.Samples = append(series.Samples, entry.shape(second, random))
		}
		synctest.Test(t, func(*testing.T) { run(series, random, entry.lag) })
		all = append(all, series)
		decisions += len(series.Desired)
	}
	text, err := json.Marshal(map[string]any{"of": *of, "interval": tick, "series": all})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*out, text, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d series, %d decisions", len(all), decisions)
}
