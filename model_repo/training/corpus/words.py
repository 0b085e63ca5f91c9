"""Word lists and fillers of slots: names, places, numbers, dates, codes, pseudo-words.

Pseudo-words matter more than their share of the text: they keep the model from learning *which* words
are copied, and leave it only *how* to copy. They are few, since users write few of them.
"""

from __future__ import annotations

from random import Random

_ONSETS = (
    *"b c d f g h j k l m n p r s t v w z b d f g k l m n p r s t v".split(),
    *"bl br ch cr dr fl gr kr ph pl qu sh sk sl st th tr tw x y zh".split(),
)
_NUCLEI = "a e i o u a e i o u ai ea ee io oo ou y".split()
_CODAS = ["", "", "", *"ck d ft k l ll m n n ng nt p r r rd s s sh t th x".split()]

FIRST_NAMES = (
    "Ana Ben Carla David Elena Farid Grace Hugo Ines Jonas Kira Liam Maya Noah Olga Pedro Quinn Rosa "
    "Sam Tara Uma Victor Wendy Xavier Yara Zoe Alice Bob Emma Lucas Mia Oliver Sofia Leo Nina Omar "
    "Priya Ravi Sara Tom Jürgen Zoë José Chloé Søren Anna Peter Maria John Laura Paul Julia Mark Eva "
    "Daniel Lena Max Clara Felix Nora Ivan Aisha Kenji Mei Fatima Tariq Ingrid Marco Theo Ruth Ada"
).split()
LAST_NAMES = (
    "Silva Costa Smith Jones Meyer Rossi Tanaka Novak Khan Lopez Brown Dubois Larsen Petrov Kim Chen "
    "Singh Garcia Evans Walker Weiß Müller Fischer Park Okafor Haddad Lindqvist Moreau Santos Ito "
    "Kowalski Murphy Schmidt Nguyen Ali Cohen Berg Ortiz Hall Young Wright Hill Green Baker Adams"
).split()
CITIES = (
    "Porto Lyon Milan Munich Seville Osaka Toronto Boston Leeds Geneva Turin Malmö Lisbon Madrid Rome "
    "Berlin Vienna Athens Oslo Dublin Tokyo Cairo Nairobi Ottawa Havana Hamburg Bergen Ghent Krakow "
    "Zürich Austin Denver Seattle Chicago Lagos Accra Lima Quito Hanoi Seoul Sydney Perth Mumbai"
).split()
NOUNS = (
    "river stone paper window garden silver engine market bridge signal copper forest ladder mirror "
    "pocket rocket shadow ticket valley winter anchor basket candle desert button carpet dragon flower "
    "ginger hammer island jacket kettle lemon magnet needle oyster pencil quartz ribbon saddle timber "
    "umbrella velvet walnut zipper table chair lamp door cloud train boat road plane ship key box map "
    "coin ring tower wheel pump valve filter cable battery motor sensor panel pipe tank turbine dam "
    "gate canal farm mill harbor castle museum library school hospital station airport theater kitchen "
    "bakery studio factory office shop hotel temple camp tunnel lake mountain field beach storm rain "
    "bread cheese coffee tea sugar salt honey apple bottle glass plate knife spoon shirt coat shoe hat "
    "book letter page story song picture film game ball team player teacher doctor nurse farmer driver "
    "pilot sailor painter writer singer horse dog cat bird fish sheep wolf bear whale clock phone "
    "camera radio screen keyboard printer robot drill saw rope brick wood steel glass sand oil gas"
).split()
THINGS = (
    "service project building server report machine database account order package device cluster "
    "queue warehouse vehicle contract office router policy refund invoice backup password meeting "
    "budget license subscription shipment warranty ticket release module pipeline dashboard schedule "
    "laptop printer workshop course exhibition festival library committee department laboratory "
    "platform sensor gateway scheduler cache index reactor plant satellite archive membership"
).split()
ATTRIBUTES = (
    "owner color price status location manager version region port timeout budget deadline limit size "
    "code name purpose address team format weight height length speed capacity temperature voltage "
    "pressure duration frequency cost fee rate score rank phase priority category author editor "
    "director supplier sponsor founder currency language title theme material range lifetime threshold"
).split()
ADJECTIVES = (
    "old new small large quiet busy bright dark heavy light fast slow cheap rare blue red green yellow "
    "white black gray brown golden broken empty full open narrow wide deep tall young famous local "
    "northern southern eastern western annual daily weekly monthly hidden public private central main "
    "early late warm cold soft hard clean dusty ancient modern wooden plastic metal digital internal"
).split()
VERBS_PAST = (
    "built repaired painted sold bought opened closed moved tested designed found lost wrote signed "
    "cleaned checked measured replaced delivered approved rejected funded founded visited discovered "
    "invented carried recorded reviewed updated installed removed planted printed translated filmed "
    "borrowed returned ordered cooked baked stored counted published planned inspected upgraded"
).split()
VERBS_NOW = (
    "handles stores checks sends builds repairs tests moves counts paints protects monitors manages "
    "supports needs uses contains controls reads writes blocks filters produces sells cleans collects "
    "prints cooks measures delivers records reviews updates replaces carries feeds serves cools heats"
).split()
JOBS = (
    "engineer teacher doctor painter driver manager analyst lawyer baker pilot nurse farmer architect "
    "designer editor librarian director mechanic chemist gardener plumber secretary researcher judge"
).split()
UNITS = (
    "kg grams meters km liters hours minutes seconds days weeks months years degrees volts watts euros "
    "dollars percent MB GB ms users people pages tons miles cm mm points steps requests cores"
).split()
MONTHS = ("January February March April May June July August September October November December").split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
COMMON = (
    "accept access account across action active add after again against age air allow almost alone along already "
    "also always among answer any apply area around arrive ask available away back bad base be because become before "
    "begin behind being believe below best better between big board body both break bring but buy by call came cannot "
    "care case cause certain change child children choose class close come common community company complete "
    "condition connect consider contact continue control could country create current customer cut data deal decide "
    "deep default delete demand depend describe detail develop did different do does done down draw drink drive "
    "during each earth easy eat effect either employee end energy enough enter equal error even event ever every "
    "everyone everything example except expect explain eye face fact fail fall false family far feel few field file "
    "fill final find fire first five floor follow food foot for force forget form forward four free friend front "
    "full game general get give go good great group grow guest hand happen have he head health hear heart help her "
    "here high him his hold home hope hour how human hundred idea if important include increase inform inside "
    "instead interest into it item its job join just keep kind know large last later law lead learn least leave "
    "left less let level lie life like line list live local long look lose lot love low made mail main make man "
    "many mark matter may mean member mind minute miss money month more morning most mother move much must my need "
    "never new next night no nothing notice now object occur off offer often once one only open option or other our "
    "out outside over own part party pass past pay people per period person place plan plate play please point "
    "possible power present problem process provide public purchase push put question quick quite rate reach read "
    "ready real reason receive refund remain remember remove repeat reply request require rest result return right "
    "rise rule run safe same save say school second see seem sell send serve set several she short should show side "
    "sign simple since single sister sit six sleep small so some soon sort sound space speak special stand start "
    "state stay step still stop store strong student study such support sure system table take talk teach team tell "
    "ten test than their them then there these they thing think third this those though three through time to today "
    "together too top total touch toward town train travel tree true try turn two type under understand until up "
    "update upon us use user usual very view visit voice wait walk wall want war warm was watch water way we week "
    "well went were what wheel when while who whole why wife win wind wish within without woman word work world "
    "would write wrong yet you your zero"
).split()
_ABBREVIATIONS = "CPU GPU API HTTP SQL DNS VPN USB LED PDF CSV SLA TTL RAM SSD HR IT QA UI EU UN NASA".split()
_CJK = "你好世界中文日本語東京大阪水火山川人大小上下春夏秋冬今天明天謝謝電車先生学生안녕하세요한국서울"
_EMOJI = "😀 🚀 🌍 ❤️ 👍 🎉 🔥 ✅ ☕ 🐍 🌊 ⚡ 🍎 🙂 🎈 🐟 📦 🧪".split()
_ACCENTED = (
    "café naïve über Ærø señor façade jalapeño Zürich crème brûlée smörgåsbord São déjà vu Łódź mañana "
    "Привет мир спасибо Ελλάδα élève garçon Straße fjørd piñata coöperate"
).split()
_DIGITS = "0123456789"


def pseudo(rng: Random, syllables: int | None = None) -> str:
    """A pronounceable word that means nothing, such as ``brooton``."""
    count = syllables or rng.choice((1, 2, 2, 2, 3))
    stem = "".join(rng.choice(_ONSETS) + rng.choice(_NUCLEI) for _ in range(count))
    return stem + rng.choice(_CODAS)


def proper(rng: Random) -> str:
    return pseudo(rng, rng.choice((1, 2, 2, 3))).capitalize()


def person(rng: Random) -> str:
    first = rng.choice(FIRST_NAMES) if rng.random() < 0.85 else proper(rng)
    if rng.random() < 0.35:
        return first
    return f"{first} {rng.choice(LAST_NAMES) if rng.random() < 0.85 else proper(rng)}"


def place(rng: Random) -> str:
    return rng.choice(CITIES) if rng.random() < 0.8 else proper(rng)


def organisation(rng: Random) -> str:
    tail = rng.choice(("Labs", "Group", "Store", "Bank", "Systems", "Foods", "Works", "Institute", "Ltd", "Press"))
    head = proper(rng) if rng.random() < 0.3 else rng.choice(NOUNS).capitalize()
    return f"{head} {tail}" if rng.random() < 0.9 else proper(rng)


def noun(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.8:
        return rng.choice(NOUNS)
    return rng.choice(COMMON) if kind < 0.88 else pseudo(rng)


def thing(rng: Random) -> str:
    return rng.choice(THINGS) if rng.random() < 0.92 else pseudo(rng)


def entity(rng: Random) -> str:
    """Something a fact may be about, without its article: ``Brooton service``, ``queue B7``."""
    kind = rng.random()
    if kind < 0.15:
        return f"the {proper(rng)} {rng.choice(THINGS)}"
    if kind < 0.4:
        return f"{rng.choice(THINGS)} {rng.choice('ABCDEFGHJKLMNPRSTVXZ')}{rng.randint(1, 99)}"
    if kind < 0.46:
        return proper(rng)
    if kind < 0.75:
        return f"the {rng.choice(ADJECTIVES)} {noun(rng)}"
    return f"the {noun(rng)} {thing(rng)}"


def code(rng: Random) -> str:
    kind = rng.randrange(7)
    if kind == 0:
        return f"{proper(rng)}-{rng.randint(1, 999)}"
    if kind == 1:
        return f"{rng.choice(NOUNS)}_{rng.choice(NOUNS)}"
    if kind == 2:
        return f"v{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}"
    if kind == 3:
        return "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(2)) + str(rng.randint(10, 9999))
    if kind == 4:
        return f"/{rng.choice(NOUNS)}/{pseudo(rng)}"
    if kind == 5:
        return f"{pseudo(rng)}.{rng.choice(('py', 'toml', 'log', 'json', 'txt', 'com', 'org'))}"
    return rng.choice(_ABBREVIATIONS)


def number(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return str(rng.randint(2, 99))
    if kind < 0.75:
        return str(rng.randint(100, 9999))
    if kind < 0.88:
        return f"{rng.randint(1, 99)},{rng.randint(0, 999):03d}"
    return f"{rng.randint(0, 99)}.{rng.randint(1, 99)}"


def amount(rng: Random) -> str:
    return f"{number(rng)} {rng.choice(UNITS)}" if rng.random() < 0.85 else f"${number(rng)}"


def year(rng: Random) -> str:
    return str(rng.randint(1400, 2060))


def date(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return f"{rng.choice(MONTHS)} {rng.randint(1, 31)}"
    if kind < 0.6:
        return f"{rng.randint(1, 31)} {rng.choice(MONTHS)} {year(rng)}"
    if kind < 0.75:
        return f"{year(rng)}-{rng.randint(1, 12):02d}-{rng.randint(1, 31):02d}"
    if kind < 0.9:
        return rng.choice(DAYS)
    return f"{rng.choice(MONTHS)} {year(rng)}"


def clock(rng: Random) -> str:
    if rng.random() < 0.7:
        return f"{rng.randint(0, 23):02d}:{rng.choice((0, 15, 20, 30, 45, 50)):02d}"
    return f"{rng.randint(1, 12)} {rng.choice(('am', 'pm', 'a.m.', 'p.m.'))}"


def value(rng: Random) -> str:
    """Anything a simple fact may state."""
    makers = (noun, proper, number, person, place, code, amount, date)
    return rng.choice(makers)(rng) if rng.random() < 0.85 else f"{rng.choice(ADJECTIVES)} {noun(rng)}"


def foreign(rng: Random) -> str:
    """Text whose characters take several tokens each: accents, CJK, emoji."""
    kind = rng.random()
    if kind < 0.4:
        return "".join(rng.choice(_CJK) for _ in range(rng.randint(1, 4)))
    return rng.choice(_EMOJI) if kind < 0.7 else rng.choice(_ACCENTED)


def digits(rng: Random) -> str:
    return "".join(rng.choice(_DIGITS) for _ in range(rng.randint(1, 8)))


def pick(rng: Random, options: tuple[str, ...] | list[str], count: int) -> list[str]:
    """Draws distinct options, fewer when there are not enough."""
    return rng.sample(list(options), min(count, len(options)))
