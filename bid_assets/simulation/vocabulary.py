"""The trades of the simulated market: categories, and for each skill what is asked for and how one would do it. Data only."""

from __future__ import annotations

from typing import NamedTuple


class Skill(NamedTuple):
    """A skill, a task that needs it, and a method that somebody who has it would name."""

    name: str
    task: str
    method: str


class Category(NamedTuple):
    """A trade, with the median budget of its jobs."""

    name: str
    median_budget: float
    deliverables: tuple[str, ...]
    skills: tuple[Skill, ...]


CATEGORIES = (
    Category(
        "web development",
        900.0,
        ("web shop", "booking portal", "customer dashboard", "membership site", "company website", "ticket system"),
        (
            Skill("React", "an interactive front end with product filters", "split the screens into small typed components"),
            Skill(
                "Django", "a back end with user accounts and an admin area", "model the accounts first and migrate step by step"
            ),
            Skill(
                "Node.js", "a service that pushes live updates to the browser", "keep one socket per client and queue the rest"
            ),
            Skill(
                "WordPress", "a site that the staff can edit by themselves", "build a lean theme with only the blocks you need"
            ),
            Skill("PostgreSQL", "reports over several years of orders", "look at the query plans and add the missing indexes"),
            Skill("Stripe", "checkout with cards and subscriptions", "use payment intents with signed webhooks"),
            Skill("TypeScript", "a clean-up of untyped browser code", "turn on strict mode one folder at a time"),
            Skill(
                "GraphQL", "one interface for the web and the phone", "write the schema together with you before any resolver"
            ),
        ),
    ),
    Category(
        "mobile apps",
        1500.0,
        ("delivery app", "fitness tracker", "field service app", "loyalty card app", "language course app", "parking app"),
        (
            Skill("Swift", "a native iPhone version", "use the platform's own navigation and widgets"),
            Skill(
                "Kotlin", "a native Android version that works on old phones", "test on three cheap devices from the first week"
            ),
            Skill("Flutter", "one code base for both stores", "share the logic and keep the platform channels thin"),
            Skill("React Native", "a phone client for an existing web shop", "reuse your web types and load images lazily"),
            Skill("Firebase", "sign-in and push notifications", "write the security rules with tests before the first release"),
            Skill("Bluetooth", "pairing with a heart rate sensor", "handle lost connections with a small state machine"),
            Skill("offline sync", "use without a connection", "keep a local log of changes and merge by version"),
            Skill("app store release", "publication in both stores", "prepare the privacy labels and a staged rollout"),
        ),
    ),
    Category(
        "data science",
        1300.0,
        ("sales forecast", "churn model", "recommendation engine", "price monitor", "survey analysis", "fraud detector"),
        (
            Skill("Python", "scripts that run every night without help", "write them as tested functions with clear logs"),
            Skill("pandas", "cleaning of messy spreadsheets", "profile each column and document every rule I apply"),
            Skill(
                "scikit-learn", "a model that says which customers will leave", "start from a simple baseline, split by time"
            ),
            Skill(
                "deep learning",
                "recognition of products in photos",
                "fine-tune a small vision network and check the errors by hand",
            ),
            Skill("SQL", "figures out of a large warehouse", "agree on the definitions first, then build views"),
            Skill("statistics", "a sound evaluation of an experiment", "compute the sample size before, intervals after"),
            Skill("web scraping", "daily prices from public catalogues", "respect rate limits and alert when a page changes"),
            Skill("dashboards", "charts that the board understands", "show five figures with their trend, no more"),
        ),
    ),
    Category(
        "design",
        600.0,
        ("brand identity", "packaging", "landing page layout", "set of icons", "trade fair booth", "yearly report"),
        (
            Skill("Figma", "screens with all their states", "set up a component library with auto layout"),
            Skill("logo design", "a mark that works in one colour", "sketch twenty ideas on paper and refine three"),
            Skill("illustration", "friendly drawings for children", "agree on a mood board, then ink by hand"),
            Skill("user research", "talks with real customers", "interview six people and cluster what they say"),
            Skill("typography", "pages that read well in print", "pair two typefaces on a strict baseline grid"),
            Skill("Photoshop", "retouching of product photographs", "work on non-destructive layers with your colour profile"),
            Skill(
                "animation", "small movements that explain the interface", "storyboard the transitions and export light vectors"
            ),
            Skill("print production", "files that the printer accepts", "deliver with bleed, overprint and a proof"),
        ),
    ),
    Category(
        "writing",
        350.0,
        ("blog series", "product catalogue", "user manual", "newsletter", "white paper", "grant proposal"),
        (
            Skill("copywriting", "pages that make visitors buy", "write three headlines each and let the numbers decide"),
            Skill("technical writing", "instructions for a complicated device", "follow every step on the device myself"),
            Skill("SEO writing", "articles found by search engines", "map one question of your buyers to each article"),
            Skill("editing", "a long manuscript in one voice", "keep a style sheet and mark every change"),
            Skill("German", "versions for the German market", "localise the idioms instead of the words"),
            Skill("Spanish", "texts for readers in Spain and Mexico", "use neutral vocabulary and note the regional choices"),
            Skill("research", "facts with sources", "cite primary literature and keep a source table"),
            Skill(
                "storytelling",
                "the history of a family business",
                "interview the founders and build it around one turning point",
            ),
        ),
    ),
    Category(
        "marketing",
        500.0,
        (
            "launch campaign",
            "holiday promotion",
            "lead funnel",
            "social media calendar",
            "webinar series",
            "referral programme",
        ),
        (
            Skill(
                "Google Ads",
                "search campaigns under a fixed cost per lead",
                "separate brand from generic terms and prune weekly",
            ),
            Skill("Facebook Ads", "audiences that look like the best buyers", "test four creatives on a small budget first"),
            Skill(
                "email marketing", "a welcome series that people open", "segment by the first purchase and test subject lines"
            ),
            Skill("SEO", "better ranking for local searches", "fix crawl errors before touching any text"),
            Skill(
                "analytics", "measurement that survives cookie banners", "set up server-side events and reconcile with orders"
            ),
            Skill("influencers", "partners with honest reach", "check the engagement of each by hand"),
            Skill("market research", "a clear view of five competitors", "compare offers, prices and reviews in one table"),
            Skill("conversion", "fewer abandoned carts", "watch twenty recorded sessions and remove the three worst steps"),
        ),
    ),
    Category(
        "cloud operations",
        1100.0,
        ("cluster migration", "backup concept", "release pipeline", "monitoring stack", "cost review", "disaster drill"),
        (
            Skill("AWS", "a move out of an old data centre", "map the services, then move the stateless ones first"),
            Skill("Kubernetes", "deployments without downtime", "use probes, budgets and small rolling steps"),
            Skill("Terraform", "infrastructure under version control", "import what exists before changing anything"),
            Skill("Docker", "images that build in a minute", "use multi-stage builds and pin the base images"),
            Skill("Linux", "hardening of twelve servers", "write an idempotent playbook and rehearse on a copy"),
            Skill("monitoring", "alerts that wake nobody for nothing", "alert on symptoms with two burn rates"),
            Skill("CI pipelines", "tests on every change", "cache the dependencies and split the slow suite"),
            Skill("network security", "safe access for remote staff", "segment by role and close every default port"),
        ),
    ),
    Category(
        "audio and video",
        450.0,
        ("product film", "podcast season", "video course", "recap of our fair", "short explainer", "spoken book"),
        (
            Skill("video editing", "a tight cut of ten hours of material", "log the takes first and cut on the voice"),
            Skill("colour grading", "one look over three cameras", "match the cameras on charts, then grade by scene"),
            Skill("motion graphics", "titles and lower thirds", "build templates that your team can reuse"),
            Skill("sound design", "atmosphere without noise", "clean the dialogue, then layer recorded ambience"),
            Skill("voice over", "a warm narrator", "record two readings in a treated room"),
            Skill("subtitles", "captions in three languages", "time them to the breath and keep to 42 characters"),
            Skill(
                "scriptwriting",
                "a story of ninety seconds",
                "write the last line first and cut everything that does not lead there",
            ),
            Skill("podcast production", "a regular show from raw recordings", "level to -16 LUFS and add chapters"),
        ),
    ),
)

SKILLS = tuple(skill for category in CATEGORIES for skill in category.skills)
SKILLS_PER_CATEGORY = len(CATEGORIES[0].skills)

INDUSTRIES = (
    "a bakery chain", "a dental clinic", "a bicycle shop", "a law firm", "a hotel group", "a museum", "a garden centre",
    "a travel agency", "an insurance broker", "a furniture maker", "a sports club", "a winery", "a language school",
    "a logistics company", "a property manager", "a charity", "a toy importer", "an energy start-up", "a publisher",
    "a regional bank", "a coffee roaster", "a machine builder", "a pharmacy", "a music school",
)  # fmt: skip

FIRST_NAMES = (
    "Ada", "Amir", "Anna", "Bao", "Carla", "Chidi", "Dana", "Diego", "Elif", "Emil", "Farah", "Grace", "Hana", "Igor", "Ines",
    "Jonas", "Kofi", "Laila", "Lena", "Luca", "Mai", "Marek", "Nadia", "Noah", "Olga", "Omar", "Petra", "Priya", "Rafael",
    "Rosa", "Samir", "Sofia", "Tariq", "Tomas", "Uma", "Victor", "Wei", "Yara", "Yusuf", "Zoe",
)  # fmt: skip

LAST_NAMES = (
    "Abbas", "Adeyemi", "Bauer", "Bianchi", "Castro", "Cohen", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad",
    "Hansen", "Ivanova", "Jensen", "Kaya", "Khan", "Kim", "Kowalski", "Lopez", "Martin", "Mehta", "Mensah", "Moreau", "Nguyen",
    "Novak", "Okafor", "Park", "Pereira", "Petrov", "Rossi", "Santos", "Sato", "Schmidt", "Silva", "Smith", "Tanaka", "Toth",
    "Weber", "Yilmaz",
)  # fmt: skip
