"""The words of random sentences, by part of speech."""

__all__ = ["WORDS"]

WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(text.split())
    for name, text in {
        "person": """man woman boy girl teacher doctor nurse farmer baker driver singer painter lawyer student child
            neighbour uncle aunt cousin brother sister mother father friend judge captain sailor pilot clerk guest
            grandmother stranger manager writer plumber tailor dentist chef soldier king queen""",
        "name": """Alice Ben Clara David Emma Frank Grace Henry Irene Jack Kate Leo Maria Noah Olivia Peter Rachel Sam
            Tina Victor Wendy Zoe Adam Bella Chloe Daniel Ella Felix George Hannah Isaac Julia Kevin Laura Martin Nina
            Oscar Paula Robert Sarah Thomas Ursula Vera William Yvonne James Lucy Michael Anna Paul""",
        "animal": """dog cat horse cow sheep goat duck goose chicken pig rabbit mouse fox wolf bear deer owl eagle fish
            frog snake turtle whale shark spider bee ant camel elephant lion tiger monkey zebra parrot donkey""",
        "thing": """table chair lamp book letter box bag key clock window door bottle cup plate knife spoon phone radio
            picture mirror blanket pillow basket bucket hammer rope ladder candle coat shirt shoe hat ring watch
            pencil newspaper ticket suitcase umbrella bicycle engine bridge fence wheel piano guitar drum ball toy
            camera computer keyboard button shelf carpet curtain kettle oven bench statue flag map coin""",
        "food": """bread butter cheese milk honey rice soup salad chicken beef fish apples oranges bananas grapes
            cherries lemons potatoes tomatoes carrots onions beans peas cake chocolate coffee tea juice water sugar
            salt pepper eggs pasta pizza sandwiches mushrooms peaches strawberries ginger garlic""",
        "place": """house garden kitchen school church hospital station market village city forest mountain river lake
            beach island desert valley field road street park museum library theatre restaurant hotel office factory
            airport harbour castle tower farm barn bakery playground courtyard basement attic hallway""",
        "abstract": """idea question answer problem story lesson promise secret plan dream memory reason chance change
            choice habit journey language law mistake moment noise number opinion price rule song speech surprise
            truth voice war peace weather winter summer spring autumn health luck fear joy anger patience""",
        "adjective": """old young tall short big small long wide narrow thick thin heavy light dark bright warm cold hot
            cool dry wet clean dirty quiet loud soft hard smooth rough sharp sweet bitter fresh strong weak rich poor
            cheap quick slow early late happy sad angry brave clever kind strange simple common rare empty full broken
            beautiful ugly famous gentle lazy busy careful cheerful wooden golden silver round square deep shallow
            terrible wonderful ordinary expensive dangerous comfortable curious nervous honest""",
        "colour": "red blue green yellow orange purple pink brown black white grey golden silver violet crimson",
        "transitive": """saw found lost bought sold carried watched painted washed opened closed moved dropped pulled
            pushed borrowed kept chose cleaned covered described drew followed forgot gave held hid ignored kicked
            lifted loved measured needed noticed offered picked remembered repaired replaced shared showed stole
            studied threw touched used visited wanted wrapped broke built brought caught checked""",
        "base": """see find lose buy sell carry watch paint wash open close move drop pull push borrow keep choose clean
            cover describe draw follow forget give hold hide ignore kick lift love measure need notice offer pick
            remember repair replace share show steal study throw touch use visit want wrap break build bring catch
            check""",
        "intransitive": """slept laughed cried ran walked swam danced sang waited arrived left stayed fell jumped worked
            rested smiled shouted whispered travelled listened disappeared returned stood climbed coughed argued""",
        "adverb": """slowly quickly quietly loudly carefully suddenly happily sadly early late often never always
            sometimes usually rarely again today yesterday tomorrow together alone outside upstairs everywhere soon
            gently badly clearly exactly finally nearly perhaps probably seldom twice""",
        "preposition": "in on near behind beside under above inside outside across around through past beyond by",
        "number": """one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
            seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety""",
        "digit": "one two three four five six seven eight nine",
        "tens": "twenty thirty forty fifty sixty seventy eighty ninety",
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "month": "January February March April May June July August September October November December",
        "country": """France Germany Italy Spain Portugal Greece Norway Sweden Finland Denmark Poland Austria Hungary
            Ireland Scotland England Canada Mexico Brazil Chile Peru Argentina Egypt Kenya Morocco Nigeria India China
            Japan Korea Thailand Vietnam Turkey Russia Australia Switzerland Belgium Iceland Cuba Jordan""",
        "town": """Paris Berlin Rome Madrid Lisbon Athens Oslo Stockholm Helsinki Copenhagen Warsaw Vienna Budapest
            Dublin Edinburgh London Ottawa Lima Cairo Nairobi Delhi Beijing Tokyo Seoul Bangkok Ankara Moscow Canberra
            Brussels Havana Boston Chicago Denver Dallas Seattle Houston Atlanta""",
        "subject": "I you we they he she everyone nobody somebody",
        "possessive": "my your his her our their",
        "auxiliary": "can could should would might must will",
        "greeting": "hello hi hey okay well yes no sure right thanks sorry please",
        "interjection": "oh ah mm-hm really wow great fine exactly indeed goodbye alright perfect",
    }.items()
}
